/** Pictures from ComfyUI's server. */

const GONE = "This picture is gone: temporary pictures are deleted when ComfyUI restarts. Queue the workflow again.";

const DECODING = { colorSpaceConversion: "none", premultiplyAlpha: "premultiply" };

/** What went wrong, in words for the user. */
export class PictureError extends Error {}

/**
 * Fetches and decodes a picture.
 *
 * Returns `bitmap`, an ImageBitmap with premultiplied alpha that is no larger than `largest` either way, and the `width`
 * and `height` of the file. Throws PictureError; an AbortError where `signal` says so.
 */
export async function loadPicture(url, largest, signal) {
    const blob = await download(url, signal);
    const bitmap = await createImageBitmap(blob, DECODING).catch(() => {
        throw new PictureError("The browser could not decode this picture: it may be too large for its memory.");
    });
    const { width, height } = bitmap;
    return { bitmap: await shrink(bitmap, largest / Math.max(width, height)), width, height };
}

/** Takes an ImageBitmap with premultiplied alpha; returns it `scale` times as large. Leaves it as it is from 1 on. */
export async function shrink(bitmap, scale) {
    if (scale >= 1) return bitmap;
    const size = { resizeWidth: Math.round(scale * bitmap.width), resizeHeight: Math.round(scale * bitmap.height) };
    const scaled = await createImageBitmap(bitmap, { ...DECODING, ...size, resizeQuality: "high" });
    bitmap.close();
    return scaled;
}

async function download(url, signal) {
    const answer = await fetch(url, { signal }).catch((error) => {
        throw signal.aborted ? error : new PictureError("ComfyUI does not answer: is it still running?");
    });
    if (answer.status === 404) throw new PictureError(GONE);
    if (!answer.ok) throw new PictureError(`ComfyUI did not send this picture: ${answer.status} ${answer.statusText}`);
    return answer.blob();
}

/** Hands a file to the browser as a download. */
export function saveFile(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it only later
}
