/** The place of a viewer's picture: an element that knows whether it is on the page. */

const NAME = "mvd-panorama-stage";

/**
 * Says "appear" when it has come onto the page and "leave" when it has left it, nothing when it was only moved. No
 * observer would do: a hidden element leaves without a change of size.
 */
class Stage extends HTMLElement {
    connectedCallback() {
        this.dispatchEvent(new Event("appear"));
    }

    disconnectedCallback() {
        queueMicrotask(() => this.isConnected || this.dispatchEvent(new Event("leave")));
    }
}

export function createStage(className) {
    customElements.get(NAME) ?? customElements.define(NAME, Stage);
    return Object.assign(document.createElement(NAME), { className });
}
