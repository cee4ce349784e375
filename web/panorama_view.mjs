/**
 * Where a viewer looks. Conventions are those of geometry/__init__.py: yaw turns to the right and pitch up, longitude 0
 * is the panorama's middle column, a camera has x right, y down and z forward, and the field of view is horizontal.
 */

const RADIANS = Math.PI / 180;

export const SMALLEST_FOV = 20;
export const LARGEST_FOV = 140;

const FORWARD = { yaw: 0, pitch: 0, fov: 90 };

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

/** A direction and a field of view, in degrees: yaw in -180..180, pitch in -90..90. */
export class View {
    constructor() {
        this.set();
    }

    get angles() {
        return { yaw: this.yaw, pitch: this.pitch, fov: this.fov };
    }

    /** Looks there; forward where an angle is missing or no number. */
    set(angles) {
        const given = (name) => (Number.isFinite(angles?.[name]) ? angles[name] : FORWARD[name]);
        [this.yaw, this.pitch] = [0, 0];
        this.turn(given("yaw"), given("pitch"));
        this.setFov(given("fov"));
    }

    turn(yaw, pitch) {
        const turned = this.yaw + yaw;
        this.yaw = turned - 360 * Math.round(turned / 360);
        this.pitch = clamp(this.pitch + pitch, -90, 90);
    }

    /** Moves the picture by (right, down) pixels of a view `width` pixels wide: exactly so at its centre. */
    drag(right, down, width) {
        const degrees = (2 * this.halfWidth) / width / RADIANS;
        // Meridians draw together with the pitch; near the poles this would turn without bounds.
        const parallel = Math.max(Math.cos(this.pitch * RADIANS), 0.5);
        this.turn((-right * degrees) / parallel, down * degrees);
    }

    setFov(fov) {
        this.fov = clamp(fov, SMALLEST_FOV, LARGEST_FOV);
    }

    /** Shows `factor` times as much at the centre. */
    zoom(factor) {
        this.setFov((2 * Math.atan(this.halfWidth * factor)) / RADIANS);
    }

    /** Half the width of the view's image plane, which stands at distance 1. */
    get halfWidth() {
        return Math.tan((this.fov * RADIANS) / 2);
    }

    /** Width in pixels at which the view's centre is as fine as a panorama's, `panoramaWidth` pixels wide. */
    nativeWidth(panoramaWidth) {
        return (2 * this.halfWidth * panoramaWidth) / (2 * Math.PI);
    }

    /** The rotation from camera to world: 9 numbers, column by column. */
    get worldFromCamera() {
        const [sy, cy] = [Math.sin(this.yaw * RADIANS), Math.cos(this.yaw * RADIANS)];
        const [sp, cp] = [Math.sin(this.pitch * RADIANS), Math.cos(this.pitch * RADIANS)];
        return [cy, 0, -sy, sy * sp, cp, cy * sp, sy * cp, -sp, cy * cp];
    }
}
