/** An element to look around in panoramas: picture, notes and toolbar. Knows nothing of ComfyUI's nodes. */

import { addKeys, addPointers, addWheel } from "./panorama_controls.mjs";
import { loadPicture, PictureError, saveFile } from "./panorama_picture.mjs";
import { createRenderer } from "./panorama_renderer.mjs";
import { STYLE } from "./panorama_style.mjs";
import { fillToolbar } from "./panorama_toolbar.mjs";
import { View } from "./panorama_view.mjs";

const MOST_PIXELS = 3840 * 2160; // of the canvas, however far the graph is zoomed in
const HINT = "Queue the workflow to look around here";
const FLAT = "This browser has no WebGL: the panorama is shown flat";
const LOST = "The browser took the graphics memory away; the picture returns as soon as there is some";

/**
 * Holds nothing on the GPU before its first picture and after `release`; it may be used again then. Draws only when
 * something has changed.
 */
export class PanoramaViewer {
    #element;
    #stage = make("div", "mvd-panorama-stage");
    #note = make("div", "mvd-panorama-note");
    #updateToolbar;
    #view = new View();
    #urls = [];
    #index = 0;
    #renderer = null;
    #width = 0; // of the panorama that is shown, in pixels; 0: none is
    #loading = null;
    #frame = 0;
    #changed = false;

    /** Fills `element`. `onAppear` is called when it comes onto the page, and when its size changes. */
    constructor(element, onAppear) {
        this.#element = element;
        element.classList.add("mvd-panorama");
        element.dataset.captureWheel = true; // Vue's nodes leave the wheel to focused elements that ask for it so
        this.#stage.tabIndex = 0;
        this.#stage.setAttribute("role", "application");
        this.#stage.setAttribute("aria-label", "Panorama: drag, or press the arrow keys, to look around");
        this.#note.setAttribute("role", "status");
        this.#stage.append(this.#note);
        const style = make("style");
        style.textContent = STYLE;
        const bar = make("div", "mvd-panorama-bar");
        this.#updateToolbar = fillToolbar(bar, this);
        element.append(style, this.#stage, bar);
        addPointers(this.#stage, this);
        addWheel(element, this);
        addKeys(element, this);
        const resizes = new ResizeObserver(() => {
            onAppear();
            this.refresh();
        });
        resizes.observe(this.#stage);
        this.#empty(HINT);
    }

    /** Shows one of these pictures. The direction stays as it is: people compare results. */
    show(urls) {
        this.#urls = urls;
        this.#index = Math.min(this.#index, Math.max(urls.length - 1, 0));
        this.#load();
    }

    /** Draws again if the element's size on the screen has changed, as it does when the graph is zoomed. */
    refresh() {
        this.#frame ||= requestAnimationFrame(() => this.#draw());
    }

    /** Gives the GPU's memory back; the viewer is empty then. */
    release() {
        this.#loading?.abort();
        this.#renderer?.release();
        this.#renderer?.canvas.remove();
        this.#renderer = null;
        this.#urls = [];
        this.#empty(HINT);
    }

    /** Turns by steps, each a twentieth of what is seen. */
    turn(right, up) {
        this.#view.turn((right * this.#view.fov) / 20, (up * this.#view.fov) / 20);
        this.#update();
    }

    /** Moves the picture by pixels of the screen. */
    drag(right, down) {
        this.#view.drag(right, down, this.#stage.getBoundingClientRect().width);
        this.#update();
    }

    zoom(factor) {
        this.#view.zoom(factor);
        this.#update();
    }

    setFov(fov) {
        this.#view.setFov(fov);
        this.#update();
    }

    reset() {
        this.#view.reset();
        this.#update();
    }

    /** Goes on to another panorama of the batch, round and round. */
    step(by) {
        if (this.#urls.length < 2) return;
        this.#index = (this.#index + by + this.#urls.length) % this.#urls.length;
        this.#load();
    }

    async toggleFullScreen() {
        const active = document.fullscreenElement === this.#element;
        await (active ? document.exitFullscreen() : this.#element.requestFullscreen()).catch(() => {}); // not allowed
    }

    /** Downloads the view, at its centre as fine as the panorama, and transparent where that is not covered. */
    async save() {
        if (!this.#width || this.#renderer.flat) return;
        const { canvas, largest } = this.#renderer;
        const { width, height } = canvas;
        const scale = Math.min(this.#view.nativeWidth(this.#width) / width, largest / Math.max(width, height));
        canvas.width = Math.round(scale * width);
        canvas.height = Math.round(scale * height);
        this.#renderer.draw(this.#view, { ground: false });
        const copy = new Promise((resolve) => canvas.toBlob(resolve)); // of what the canvas holds now
        this.#draw();
        const [yaw, pitch, fov] = [this.#view.yaw, this.#view.pitch, this.#view.fov].map(Math.round);
        const file = await copy;
        if (file) saveFile(file, `panorama_yaw${yaw}_pitch${pitch}_fov${fov}.png`);
        else this.#say("This view is too large for the browser to save");
    }

    async #load() {
        this.#loading?.abort();
        const { signal } = (this.#loading = new AbortController());
        if (!this.#width) this.#say("Loading");
        this.#update();
        try {
            this.#renderer ??= this.#start();
            const { bitmap, ...size } = await loadPicture(this.#urls[this.#index], this.#renderer.largest, signal);
            if (signal.aborted) bitmap.close();
            else this.#take(bitmap, size);
        } catch (error) {
            if (signal.aborted) return;
            this.#empty(error.message);
            if (!(error instanceof PictureError)) throw error;
        }
    }

    /** Says something in the picture's place. */
    #empty(text) {
        this.#width = 0;
        this.#say(text);
        this.#update();
    }

    #start() {
        const canvas = make("canvas");
        const renderer = createRenderer(canvas);
        canvas.addEventListener("webglcontextlost", (event) => {
            event.preventDefault(); // or it is never restored
            if (renderer === this.#renderer) this.#empty(LOST);
        });
        canvas.addEventListener("webglcontextrestored", () => {
            renderer.restore();
            this.#load();
        });
        this.#stage.prepend(canvas);
        return renderer;
    }

    /** Shows a loaded picture; `width` and `height` are those of its file. */
    #take(bitmap, { width, height }) {
        this.#width = bitmap.width;
        const notes = this.#renderer.flat ? [FLAT] : [];
        if (bitmap.width < width) notes.push(`Shown at ${bitmap.width} x ${bitmap.height} of ${width} x ${height}`);
        this.#renderer.setPicture(bitmap);
        this.#say(notes.join(". "));
        this.#update();
    }

    #say(text) {
        this.#note.textContent = text;
    }

    #update() {
        this.#element.dataset.picture = this.#width ? "shown" : "none";
        this.#updateToolbar({
            view: this.#view,
            index: this.#index,
            pictures: this.#urls.length,
            flat: Boolean(this.#renderer?.flat),
        });
        this.#changed = true;
        this.refresh();
    }

    #draw() {
        this.#frame = 0;
        const [width, height] = this.#screenSize();
        if (!this.#width || !width || !height) return; // hidden: there will be a change of size
        const { canvas } = this.#renderer;
        if (width !== canvas.width || height !== canvas.height) {
            canvas.width = width;
            canvas.height = height;
        } else if (!this.#changed) {
            return;
        }
        this.#changed = false;
        this.#renderer.draw(this.#view);
    }

    /** Width and height of the picture in pixels of the screen. */
    #screenSize() {
        const { width, height } = this.#stage.getBoundingClientRect(); // as the graph's zoom has it
        const scale = Math.min(devicePixelRatio, Math.sqrt(MOST_PIXELS / (width * height)));
        return [Math.round(scale * width), Math.round(scale * height)];
    }
}

function make(tag, className = "") {
    return Object.assign(document.createElement(tag), { className });
}
