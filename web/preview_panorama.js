import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const VIEW = "view"; // the node's property that says where the viewer looks
const onPage = new Set(); // viewers
let followed = null; // the canvas whose drawing they follow

/** Gives Preview Panorama its viewer. Every page loads this file: the viewer itself is loaded with the first node. */
app.registerExtension({
    name: "MVDiffusion.PreviewPanorama",

    nodeCreated(node) {
        if (node.comfyClass !== "MVDiffusionPreviewPanorama") return;
        const element = document.createElement("div");
        const options = { serialize: false, hideOnZoom: false, getMinHeight: () => 240 };
        const widget = node.addDOMWidget("panorama", "MVDIFFUSION_PANORAMA", element, options);
        widget.serialize = false; // the option keeps it out of prompts, this out of saved workflows
        node.setSize([Math.max(node.size[0], 460), Math.max(node.size[1], 380)]);
        showPanoramas(node, element);
    },
});

/**
 * Has the node show its output pictures in `element`, and nowhere else. All but the viewer is in place when this
 * returns: the node may get its saved state, and be drawn with its pictures, before the viewer has come.
 */
function showPanoramas(node, element) {
    let viewer = null;
    let images = null;

    function update() {
        const latest = app.nodeOutputs[outputKey(node)]?.images;
        if (!latest?.length) return;
        node.images = latest; // the front end makes its flat preview of output that is not the node's images yet
        if (!viewer || latest === images || !element.isConnected) return; // not on the page: the node may be removed
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
    before(node, "onConfigure", () => viewer?.look(node.properties[VIEW]));
    follow(app.canvas);
    element.addEventListener("pointerdown", (event) => {
        if (event.button === 1) app.canvas.processMouseDown(event); // the middle button moves the graph, as everywhere
    });
    element.addEventListener("wheel", (event) => app.canvas.processMouseWheel(event)); // what the viewer does not take
    const onLook = (angles) => keepView(node, angles);
    loadViewer(element, { onAppear: update, onLeave: leave, onLook }).then((loaded) => {
        viewer = loaded;
        viewer.look(node.properties[VIEW]);
        update();
    });
}

async function loadViewer(element, callbacks) {
    try {
        const { PanoramaViewer } = await import("./panorama_viewer.mjs");
        return new PanoramaViewer(element, callbacks);
    } catch (error) {
        element.textContent = "The viewer could not be loaded: reload the page";
        throw error;
    }
}

/**
 * Saves with the graph where the viewer looks. Looking around is no change to be undone: the graph's earlier states,
 * which Undo brings back, look there too.
 */
function keepView(node, angles) {
    node.properties[VIEW] = angles;
    const tracker = app.extensionManager.workflow?.activeWorkflow?.changeTracker;
    if (!tracker) return;
    const { initialState, activeState, undoQueue, redoQueue } = tracker;
    for (const state of [initialState, activeState, ...undoQueue, ...redoQueue]) {
        const saved = savedNode(state, node);
        if (saved) saved.properties = { ...saved.properties, [VIEW]: angles };
    }
}

/** The node in a saved graph, or undefined. */
function savedNode(state, { id, graph }) {
    const saved = isInRoot(graph) ? state : state?.definitions?.subgraphs?.find((subgraph) => subgraph.id === graph.id);
    return saved?.nodes?.find((node) => `${node.id}` === `${id}`);
}

/** Draws the viewers again after the graph, which may have been zoomed. Vue's nodes do not say so themselves. */
function follow(canvas) {
    if (canvas === followed) return;
    followed = canvas;
    before(canvas, "onDrawForeground", () => onPage.forEach((viewer) => viewer.refresh()));
}

/** The name of a node among the front end's outputs: nodes in subgraphs carry the subgraph's id. */
function outputKey({ id, graph }) {
    return isInRoot(graph) ? `${id}` : `${graph.id}:${id}`;
}

function isInRoot(graph) {
    return !graph || graph.isRootGraph;
}

/** Has `callback` run before the method that the node has under this name, if it has one. */
function before(node, name, callback) {
    const method = node[name];
    node[name] = function (...args) {
        callback();
        return method?.apply(this, args);
    };
}
