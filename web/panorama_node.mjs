/** A node of the front end and the viewer in it. */

import { PanoramaViewer } from "./panorama_viewer.mjs";

/** Puts a viewer into the node's DOM widget, where it shows the node's output pictures. */
export function showPanoramas(node, widget, app, api) {
    const viewer = new PanoramaViewer(widget.element, () => update());
    let images = null;

    function update() {
        const latest = app.nodeOutputs[outputKey(node)]?.images;
        if (!latest?.length || latest === images) return;
        images = latest;
        node.images = latest; // the front end makes its flat preview of output that is not the node's images yet
        viewer.show(latest.map((image) => api.apiURL(`/view?${new URLSearchParams(image)}`)));
    }

    node.hideOutputImages = true; // the same where nodes are drawn by Vue
    before(node, "onDrawBackground", update); // also meets output that came back with its workflow's tab
    before(node, "onExecuted", update);
    before(node, "onRemoved", () => {
        images = null;
        viewer.release();
    });
    widget.options.onDraw = () => viewer.refresh();
    widget.element.addEventListener("pointerdown", (event) => {
        if (event.button === 1) app.canvas.processMouseDown(event); // the middle button moves the graph, as everywhere
    });
    update();
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
