/** The bar below a viewer's picture. */

import { LARGEST_FOV, SMALLEST_FOV } from "./panorama_view.mjs";

const ICONS = {
    previous: "M10 3 5 8l5 5",
    next: "M6 3l5 5-5 5",
    reset: "M3 3v4h4M3.4 7A5 5 0 1 1 3 9",
    save: "M8 2v8M4.5 6.5 8 10l3.5-3.5M3 13.5h10",
    fullScreen: "M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3",
};

/** Fills `bar` with the controls of a viewer; returns what is to be called with its state whenever that changes. */
export function fillToolbar(bar, viewer) {
    const count = label("mvd-panorama-count");
    const pages = document.createElement("span");
    pages.className = "mvd-panorama-pages";
    pages.append(
        button("previous", "Previous panorama (Page Up)", () => viewer.step(-1)),
        count,
        button("next", "Next panorama (Page Down)", () => viewer.step(1)),
    );
    const readout = label("mvd-panorama-readout");
    const slider = fovSlider(viewer);
    const tools = document.createElement("span");
    tools.className = "mvd-panorama-tools";
    tools.append(
        slider,
        button("reset", "Reset the view (Home)", () => viewer.reset()),
        button("save", "Save this view at the panorama's resolution (S)", () => viewer.save()),
    );
    bar.append(pages, readout, tools);
    if (document.fullscreenEnabled) {
        bar.append(button("fullScreen", "Full screen (F)", () => viewer.toggleFullScreen()));
    }

    return ({ view, index, pictures, flat }) => {
        bar.hidden = pictures === 0;
        pages.hidden = pictures < 2;
        readout.hidden = tools.hidden = flat;
        count.textContent = `${index + 1} / ${pictures}`;
        readout.textContent = `yaw ${degrees(view.yaw, 1)} pitch ${degrees(view.pitch, 1)} fov ${degrees(view.fov, 0)}`;
        slider.value = view.fov;
    };
}

function degrees(angle, digits) {
    return `${angle.toFixed(digits).replace(/^-(0\.?0*)$/, "$1")}°`;
}

function label(className) {
    const element = document.createElement("span");
    element.className = className;
    return element;
}

function button(icon, title, action) {
    const element = document.createElement("button");
    element.type = "button";
    element.title = title;
    element.setAttribute("aria-label", title);
    element.dataset.action = icon;
    element.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${ICONS[icon]}"/></svg>`;
    element.addEventListener("click", action);
    return element;
}

function fovSlider(viewer) {
    const slider = document.createElement("input");
    const title = "Field of view in degrees";
    Object.assign(slider, { type: "range", min: SMALLEST_FOV, max: LARGEST_FOV, step: 1, title });
    slider.setAttribute("aria-label", title);
    slider.addEventListener("input", () => viewer.setFov(Number(slider.value)));
    return slider;
}
