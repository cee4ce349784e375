/** An element to look around in panoramas: picture, notes and toolbar. Knows nothing of ComfyUI's nodes. */

import { addKeys, addPointers, addWheel } from "./panorama_controls.mjs";
import { loadPicture, PictureError, saveFile, shrink } from "./panorama_picture.mjs";
import { createRenderer } from "./panorama_renderer.mjs";
import { createStage } from "./panorama_stage.mjs";
import { addStyle } from "./panorama_style.mjs";
import { fillToolbar } from "./panorama_toolbar.mjs";
import { View } from "./panorama_view.mjs";

const MOST_PIXELS = 3840 * 2160; // of the canvas, however far the graph is zoomed in
const LEAST_WIDTH = 512; // of a panorama that is shown smaller for want of memory
const HINT = "Queue the workflow to look around here";
const LOADING = "Loading";
const FLAT = "This browser has no WebGL: the panorama is shown flat";
const FULL = "There is not enough graphics memory for this panorama: close other programs that use it";
const LOST = "The browser took the graphics memory away; the picture returns as soon as there is some";

/**
 * Holds nothing on the GPU before its first picture and after `release`; it may be used again then. Draws only when
 * something has changed.
 */
export class PanoramaViewer {
    #element;
    #stage = createStage("mvd-panorama-stage");
    #note = make("div", "mvd-panorama-note");
    #updateToolbar;
    #onLook;
    #view = new View();
    #urls = [];
    #index = 0;
    #renderer = null;
    #width = 0; // of the panorama that is shown, in pixels; 0: none is
    #loading = null;
    #frame = 0;
    #changed = false;

    /**
     * Fills `element`. `onAppear` is called when it comes onto the page, and when its size changes, `onLeave` when it
     * has left the page, `onLook` with the new { yaw, pitch, fov } when someone has turned or zoomed the picture.
     */
    constructor(element, { onAppear, onLeave, onLook }) {
        this.#element = element;
        this.#onLook = onLook;
        element.classList.add("mvd-panorama");
        this.#stage.tabIndex = 0;
        this.#stage.setAttribute("role", "application");
        this.#stage.setAttribute("aria-label", "Panorama: drag, or press the arrow keys, to look around");
        this.#note.setAttribute("role", "status");
        this.#stage.append(this.#note);
        const bar = make("div", "mvd-panorama-bar");
        this.#updateToolbar = fillToolbar(bar, this);
        addStyle();
        element.append(this.#stage, bar);
        addPointers(this.#stage, this);
        addWheel(element, this);
        addKeys(element, this);
        this.#stage.addEventListener("appear", onAppear);
        this.#stage.addEventListener("leave", onLeave);
        const resizes = new ResizeObserver(() => {
            onAppear();
            this.refresh();
        });
        resizes.observe(this.#stage);
        this.#empty(HINT);
    }

    /** Whether there is a picture to turn and zoom. */
    get canTurn() {
        return this.#width > 0 && !this.#renderer.flat;
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
        cancelAnimationFrame(this.#frame);
        this.#frame = 0;
    }

    /** Looks where { yaw, pitch, fov } say, in degrees; forward where they do not. */
    look(angles) {
        this.#view.set(angles);
        this.#update();
    }

    /** Turns by steps, each a twentieth of what is seen. */
    turn(right, up) {
        this.#view.turn((right * this.#view.fov) / 20, (up * this.#view.fov) / 20);
        this.#looked();
    }

    /** Moves the picture by pixels of the screen. */
    drag(right, down) {
        this.#view.drag(right, down, this.#stage.getBoundingClientRect().width);
        this.#looked();
    }

    zoom(factor) {
        this.#view.zoom(factor);
        this.#looked();
    }

    setFov(fov) {
        this.#view.setFov(fov);
        this.#looked();
    }

    reset() {
        this.#view.set();
        this.#looked();
    }

    /** Goes on to another panorama of the batch, round and round. */
    step(by) {
        if (this.#urls.length < 2) return;
        this.#index = (this.#index + by + this.#urls.length) % this.#urls.length;
        this.#load();
    }

    async toggleFullScreen() {
        if (!document.fullscreenEnabled) return;
        const active = document.fullscreenElement === this.#element;
        await (active ? document.exitFullscreen() : this.#element.requestFullscreen()).catch(() => {}); // not allowed
    }

    /** Downloads the view, at its centre as fine as the panorama, and transparent where that is not covered. */
    async save() {
        if (!this.canTurn) return;
        const copy = this.#renderer.copy(this.#view, this.#view.nativeWidth(this.#width));
        this.#draw();
        const [yaw, pitch, fov] = [this.#view.yaw, this.#view.pitch, this.#view.fov].map(Math.round);
        const file = await copy;
        if (file) saveFile(file, `panorama_yaw${yaw}_pitch${pitch}_fov${fov}.png`);
        else this.#say("This view is too large for the browser to save");
    }

    async #load() {
        if (!this.#urls.length) return;
        this.#loading?.abort();
        const { signal } = (this.#loading = new AbortController());
        if (!this.#width) this.#say(LOADING);
        this.#update();
        try {
            this.#renderer ??= this.#start();
            const { bitmap, ...file } = await loadPicture(this.#urls[this.#index], this.#renderer.largest, signal);
            await this.#take(bitmap, file, signal);
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
            if (renderer !== this.#renderer) return;
            renderer.restore();
            this.#load();
        });
        this.#stage.prepend(canvas);
        return renderer;
    }

    /** Shows a loaded picture, smaller if the GPU has no memory for it. `file`: the file's width and height. */
    async #take(bitmap, file, signal) {
        if (signal.aborted) return bitmap.close();
        const { width, height } = bitmap; // it has none when it is closed
        if (!this.#renderer.setPicture(bitmap)) {
            this.#empty(LOADING);
            if (width <= LEAST_WIDTH) throw new PictureError(FULL);
            return this.#take(await shrink(bitmap, 0.5), file, signal);
        }
        this.#width = width;
        const notes = this.#renderer.flat ? [FLAT] : [];
        if (width < file.width) notes.push(`Shown at ${width} x ${height} of ${file.width} x ${file.height}`);
        this.#say(notes.join(". "));
        this.#update();
    }

    #looked() {
        this.#onLook(this.#view.angles);
        this.#update();
    }

    #say(text) {
        this.#note.textContent = text;
    }

    #update() {
        this.#element.dataset.captureWheel = this.canTurn; // Vue's nodes leave it to focused elements that ask so
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
