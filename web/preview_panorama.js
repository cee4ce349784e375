import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

/** Gives Preview Panorama its viewer. Every page loads this file: the viewer itself is loaded with the first node. */
app.registerExtension({
    name: "MVDiffusion.PreviewPanorama",

    async nodeCreated(node) {
        if (node.comfyClass !== "MVDiffusionPreviewPanorama") return;
        // The place is taken at once, so that a saved size is met; the viewer fills it when it has come.
        const element = document.createElement("div");
        const options = { serialize: false, hideOnZoom: false, getMinHeight: () => 240 };
        const widget = node.addDOMWidget("panorama", "MVDIFFUSION_PANORAMA", element, options);
        widget.serialize = false; // the option keeps it out of prompts, this out of saved workflows
        node.setSize([Math.max(node.size[0], 460), Math.max(node.size[1], 380)]);
        const { showPanoramas } = await import("./panorama_node.mjs");
        showPanoramas(node, widget, app, api);
    },
});
