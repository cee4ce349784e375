/** Pointers, wheel and keys that turn a PanoramaViewer. */

const KEYS = {
    arrowleft: (viewer) => viewer.turn(-1, 0),
    arrowright: (viewer) => viewer.turn(1, 0),
    arrowup: (viewer) => viewer.turn(0, 1),
    arrowdown: (viewer) => viewer.turn(0, -1),
    "+": (viewer) => viewer.zoom(1 / 1.1),
    "=": (viewer) => viewer.zoom(1 / 1.1),
    "-": (viewer) => viewer.zoom(1.1),
    0: (viewer) => viewer.reset(),
    home: (viewer) => viewer.reset(),
    f: (viewer) => viewer.toggleFullScreen(),
    s: (viewer) => viewer.save(),
    pageup: (viewer) => viewer.step(-1),
    pagedown: (viewer) => viewer.step(1),
};

/** Keys that mean something here go no further: ComfyUI has shortcuts of its own. */
export function addKeys(element, viewer) {
    element.addEventListener("keydown", (event) => {
        const action = KEYS[event.key.toLowerCase()];
        const ofSlider = event.target.type === "range";
        if (!action || ofSlider || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        event.stopPropagation();
        action(viewer);
    });
}

export function addWheel(element, viewer) {
    const zoom = (event) => {
        if (!viewer.canTurn) return; // the graph may have it
        event.preventDefault();
        event.stopPropagation();
        const pixels = event.deltaY * [1, 16, element.clientHeight][event.deltaMode];
        viewer.zoom(Math.exp(pixels * (event.ctrlKey ? 0.01 : 0.001))); // two fingers on a pad arrive as ctrl and little
    };
    element.addEventListener("wheel", zoom, { passive: false, capture: true }); // before the graph
}

/** One pointer drags the picture, several also zoom by the distance between them. */
export function addPointers(element, viewer) {
    const pointers = new Map();

    element.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        element.setPointerCapture(event.pointerId);
        pointers.set(event.pointerId, event);
        if (event.pointerType === "touch") keepTouchFromGraph();
    });

    element.addEventListener("pointermove", (event) => {
        if (!pointers.has(event.pointerId)) return;
        const before = outline(pointers);
        pointers.set(event.pointerId, event);
        const after = outline(pointers);
        viewer.drag(after.x - before.x, after.y - before.y);
        if (before.spread && after.spread) viewer.zoom(before.spread / after.spread);
    });

    element.addEventListener("lostpointercapture", (event) => pointers.delete(event.pointerId));
}

/** The middle of all pointers, and how far they lie from it on average. */
function outline(pointers) {
    const points = [...pointers.values()];
    const mean = (number) => points.reduce((sum, point) => sum + number(point), 0) / points.length;
    const [x, y] = [mean((point) => point.clientX), mean((point) => point.clientY)];
    return { x, y, spread: mean((point) => Math.hypot(point.clientX - x, point.clientY - y)) };
}

/**
 * Stops moving touches at the window until a finger is lifted. The front end zooms the graph by two fingers wherever
 * they are, and listens above all nodes: only the window comes before it.
 */
function keepTouchFromGraph() {
    const lifted = new AbortController();
    const options = { capture: true, signal: lifted.signal };
    window.addEventListener("touchmove", (event) => event.stopPropagation(), options);
    window.addEventListener("pointerup", () => lifted.abort(), options);
    window.addEventListener("pointercancel", () => lifted.abort(), options);
}
