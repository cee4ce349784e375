/** The viewer's looks, in the colours of ComfyUI's theme. */

const ID = "mvd-panorama-style";
const STYLE = `
.mvd-panorama {
    box-sizing: border-box;
    container-type: inline-size;
    display: flex;
    flex-direction: column;
    width: 100%;
    height: 100%;
    min-height: 220px;
    overflow: hidden;
    border: 1px solid var(--border-color, #4e4e4e);
    border-radius: 6px;
    background: var(--comfy-input-bg, #222);
    color: var(--input-text, #ddd);
    font: 12px/1 system-ui, sans-serif;
    user-select: none;
    -webkit-user-select: none;
}
.mvd-panorama:fullscreen {
    border: none;
    border-radius: 0;
}
.mvd-panorama [hidden] {
    display: none;
}
.mvd-panorama-stage {
    position: relative;
    flex: 1;
    min-height: 0;
    outline: none;
    cursor: grab;
    touch-action: none;
}
.mvd-panorama-stage:active {
    cursor: grabbing;
}
.mvd-panorama-stage:focus-visible::after {
    content: "";
    position: absolute;
    inset: 0;
    border: 2px solid var(--p-primary-color, #60a5fa);
    pointer-events: none;
}
.mvd-panorama-stage canvas {
    position: absolute;
    display: block;
    width: 100%;
    height: 100%;
}
.mvd-panorama-note {
    position: absolute;
    box-sizing: border-box;
    pointer-events: none;
    line-height: 1.4;
}
.mvd-panorama-note:empty {
    display: none;
}
.mvd-panorama[data-picture="shown"] .mvd-panorama-note {
    left: 6px;
    bottom: 6px;
    max-width: calc(100% - 12px);
    padding: 2px 8px;
    border-radius: 4px;
    background: rgb(0 0 0 / 65%);
    color: #fff;
}
.mvd-panorama[data-picture="none"] .mvd-panorama-note {
    inset: 0;
    display: grid;
    place-items: center;
    padding: 16px;
    text-align: center;
    text-wrap: balance;
    color: var(--descrip-text, #999);
}
.mvd-panorama[data-picture="none"] canvas,
.mvd-panorama[data-picture="none"] .mvd-panorama-readout,
.mvd-panorama[data-picture="none"] .mvd-panorama-tools {
    visibility: hidden;
}
.mvd-panorama[data-picture="none"] .mvd-panorama-stage {
    cursor: default;
}
.mvd-panorama-bar {
    display: flex;
    align-items: center;
    gap: 4px;
    height: 30px;
    padding: 0 4px;
    background: var(--comfy-menu-bg, #353535);
}
.mvd-panorama-pages,
.mvd-panorama-tools {
    display: flex;
    align-items: center;
    gap: 2px;
}
.mvd-panorama-count,
.mvd-panorama-readout {
    flex: none;
    padding: 0 4px;
    white-space: nowrap;
    font-variant-numeric: tabular-nums;
}
.mvd-panorama-readout {
    color: var(--descrip-text, #999);
    font-size: 11px;
}
.mvd-panorama-tools {
    flex: 1;
    justify-content: end;
    min-width: 0;
}
.mvd-panorama-bar > button {
    margin-left: auto;
}
.mvd-panorama-bar input {
    flex: 0 1 110px;
    min-width: 0;
    height: 4px;
    margin: 0 6px;
    accent-color: var(--p-primary-color, #60a5fa);
    cursor: pointer;
}
.mvd-panorama-bar button {
    flex: none;
    display: grid;
    place-items: center;
    width: 24px;
    height: 24px;
    padding: 0;
    border: none;
    border-radius: 4px;
    background: none;
    color: inherit;
    cursor: pointer;
}
.mvd-panorama-bar button:hover {
    background: var(--comfy-input-bg, #222);
}
.mvd-panorama-bar svg {
    width: 16px;
    height: 16px;
    fill: none;
    stroke: currentColor;
    stroke-width: 1.4;
    stroke-linecap: round;
    stroke-linejoin: round;
}
@container (max-width: 340px) {
    .mvd-panorama-bar input {
        display: none;
    }
}
@container (max-width: 250px) {
    .mvd-panorama-readout {
        display: none;
    }
}
`;

/** Gives the page the looks of all viewers. */
export function addStyle() {
    if (document.getElementById(ID)) return;
    const style = document.createElement("style");
    style.id = ID;
    style.textContent = STYLE;
    document.head.append(style);
}
