/** Draws views of a panorama onto a canvas: with WebGL 2, or flat where there is none. */

import { FRAGMENT_SHADER, VERTEX_SHADER } from "./panorama_shader.mjs";

/** The renderer that this browser can have for a canvas without a context. */
export function createRenderer(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: false, depth: false });
    return gl ? new SphereRenderer(gl) : new FlatRenderer(canvas.getContext("2d"));
}

/** Shows what a View sees of a panorama. */
class SphereRenderer {
    flat = false;

    constructor(gl) {
        this.canvas = gl.canvas;
        this.gl = gl;
        this.restore();
    }

    /** Largest width and height of pictures, in pixels. */
    get largest() {
        return this.gl.getParameter(this.gl.MAX_TEXTURE_SIZE);
    }

    /** Makes what a context loses when the browser takes it away: all but the canvas. The picture is gone then. */
    restore() {
        const { gl } = this;
        const program = createProgram(gl);
        gl.useProgram(program);
        this.uniforms = Object.fromEntries(
            ["worldFromCamera", "halfPlane", "ground"].map((name) => [name, gl.getUniformLocation(program, name)]),
        );
        this.texture = null;
    }

    /** Takes over an ImageBitmap with premultiplied alpha. Returns false, and leaves it, where memory is too small. */
    setPicture(bitmap) {
        const { gl } = this;
        gl.deleteTexture(this.texture); // first: two large panoramas may not fit
        this.texture = gl.createTexture();
        gl.bindTexture(gl.TEXTURE_2D, this.texture);
        const levels = 1 + Math.floor(Math.log2(Math.max(bitmap.width, bitmap.height)));
        gl.texStorage2D(gl.TEXTURE_2D, levels, gl.RGBA8, bitmap.width, bitmap.height);
        gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
        gl.generateMipmap(gl.TEXTURE_2D);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.REPEAT);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
        if (gl.getError() === gl.OUT_OF_MEMORY) {
            gl.deleteTexture(this.texture);
            return false;
        }
        bitmap.close();
        return true;
    }

    /** Fills the canvas. Where the panorama is not covered there is a marked ground, or nothing. */
    draw(view, { ground = true } = {}) {
        const { gl, uniforms } = this;
        const { drawingBufferWidth: width, drawingBufferHeight: height } = gl; // less than the canvas without memory
        gl.viewport(0, 0, width, height);
        gl.uniformMatrix3fv(uniforms.worldFromCamera, false, view.worldFromCamera);
        gl.uniform2f(uniforms.halfPlane, view.halfWidth, (view.halfWidth * height) / width);
        gl.uniform1f(uniforms.ground, ground ? 1 : 0);
        gl.drawArrays(gl.TRIANGLES, 0, 3);
    }

    /**
     * A PNG of the view `width` pixels wide, or as wide as possible, transparent where nothing is covered; null where
     * the browser has no memory. Its size stays the canvas's: that is to be drawn again.
     */
    async copy(view, width) {
        const { canvas, gl } = this;
        const largest = Math.min(this.largest, ...gl.getParameter(gl.MAX_VIEWPORT_DIMS));
        resize(canvas, Math.min(width / canvas.width, largest / Math.max(canvas.width, canvas.height)));
        const granted = [gl.drawingBufferWidth / canvas.width, gl.drawingBufferHeight / canvas.height];
        resize(canvas, Math.min(...granted)); // or the file is cropped
        this.draw(view, { ground: false });
        return new Promise((resolve) => canvas.toBlob(resolve)); // of what the canvas holds now
    }

    /** Gives the GPU's memory back at once, not when the garbage collector comes by. */
    release() {
        this.gl.getExtension("WEBGL_lose_context")?.loseContext();
    }
}

/** Shows the whole panorama as the flat picture that it is. */
class FlatRenderer {
    flat = true;
    largest = 8192;

    constructor(context) {
        this.canvas = context.canvas;
        this.context = context;
    }

    setPicture(bitmap) {
        this.release();
        this.bitmap = bitmap;
        return true;
    }

    draw() {
        const { bitmap, canvas, context } = this;
        const scale = Math.min(canvas.width / bitmap.width, canvas.height / bitmap.height);
        const [width, height] = [scale * bitmap.width, scale * bitmap.height];
        context.clearRect(0, 0, canvas.width, canvas.height);
        context.drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    }

    release() {
        this.bitmap?.close();
    }
}

function resize(canvas, scale) {
    const [width, height] = [canvas.width, canvas.height].map((pixels) => Math.max(Math.round(scale * pixels), 1));
    Object.assign(canvas, { width, height });
}

function createProgram(gl) {
    const program = gl.createProgram();
    const sources = { [gl.VERTEX_SHADER]: VERTEX_SHADER, [gl.FRAGMENT_SHADER]: FRAGMENT_SHADER };
    for (const [type, source] of Object.entries(sources)) {
        const shader = gl.createShader(type);
        gl.shaderSource(shader, source);
        gl.compileShader(shader);
        gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
        throw new Error(`The viewer's shader does not compile here: ${gl.getProgramInfoLog(program)}`);
    }
    return program;
}
