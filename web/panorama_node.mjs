/** A node of the front end and the viewer in it. */

import { PanoramaViewer } from "./panorama_viewer.mjs";

const onPage = new Set(); // viewers
let followed = null; // the canvas whose drawing they follow

/** Puts a viewer into the node's DOM widget, where it shows the node's output pictures. */
export function showPanoramas(node, widget, app, api) {
    const viewer = new PanoramaViewer(widget.element, { onAppear: () => update(), onLeave: leave });
    let images = null;

    function update() {
        const latest = app.nodeOutputs[outputKey(node)]?.images;
        if (!latest?.length) return;
        node.images = latest; // the front end makes its flat preview of output that is not the node's images yet
        if (latest === images || !widget.element.isConnected) return; // no element on the page: the node may be removed
        images = latest;
        onPage.add(viewer);
        viewer.show(latest.map((image) => api.apiURL(`/view?${new URLSearchParams(image)}`)));
    }

    /** Nothing stays on the GPU, whatever became of the node. */
    function leave() {
        onPage.delete(viewer);
        images = null;
        viewer.release();
    }

    node.hideOutputImages = true; // the same where nodes are drawn by Vue
    before(node, "onDrawBackground", update); // also meets output that came back with its workflow's tab
    before(node, "onExecuted", update);
    follow(app.canvas);
    widget.element.addEventListener("pointerdown", (event) => {
        if (event.button === 1) app.canvas.processMouseDown(event); // the middle button moves the graph, as everywhere
    });
    widget.element.addEventListener("wheel", (event) => {
        if (!event.defaultPrevented) app.canvas.processMouseWheel(event); // there is nothing to zoom here
    });
    update();
}

/** Draws the viewers again after the graph, which may have been zoomed. Vue's nodes do not say so themselves. */
function follow(canvas) {
    if (canvas === followed) return;
    followed = canvas;
    before(canvas, "onDrawForeground", () => onPage.forEach((viewer) => viewer.refresh()));
}

/** The name of a node among the front end's outputs: nodes in subgraphs carry the subgraph's id. */
function outputKey(node) {
    return node.graph && !node.graph.isRootGraph ? `${node.graph.id}:${node.id}` : `${node.id}`;
}

/** Has `callback` run before the method that the node has under this name, if it has one. */
function before(node, name, callback) {
    const method = node[name];
    node[name] = function (...args) {
        callback();
        return method?.apply(this, args);
    };
}
