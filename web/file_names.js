import { app } from "../../scripts/app.js";

/** The widgets of our nodes that name a file or a folder. */
const NAMES = {
    MVDiffusionSave: "filename_prefix",
    MVDiffusionSavePanorama: "filename_prefix",
    MVDiffusionSaveSequence: "folder",
    MVDiffusionTrain: "run",
};

/** Fills in %date:...% and %Node.widget% as a graph is queued. The front end does so for nodes of its own list alone. */
app.registerExtension({
    name: "MVDiffusion.FileNames",

    nodeCreated(node) {
        const input = NAMES[node.comfyClass];
        const widget = input && node.widgets?.find(({ name }) => name === input);
        if (!widget) return;
        widget.serializeValue = () => {
            const fill = window.comfyAPI?.utils?.applyTextReplacements; // its module warns when it is imported
            return fill ? fill(app, widget.value) : widget.value;
        };
    },
});
