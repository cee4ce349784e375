/** The shaders of the viewer: one triangle that covers the canvas, and the panorama looked up for each of its pixels. */

export const VERTEX_SHADER = `#version 300 es
out vec2 place; // -1..1 from left to right and from bottom to top

void main() {
    place = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
    gl_Position = vec4(place, 0.0, 1.0);
}`;

export const FRAGMENT_SHADER = `#version 300 es
precision highp float;

const float PI = 3.14159265358979;
const float TINY = 1e-20; // keeps atan from (0, 0), which has no result, and from -0, which SwiftShader takes wrongly
const vec3 GROUND = vec3(0.10);
const vec3 GRID = vec3(0.27);

uniform sampler2D panorama; // colours times coverage, coverage
uniform mat3 worldFromCamera;
uniform vec2 halfPlane; // half the width and the height of the image plane, which stands at distance 1
uniform float ground; // 1: uncovered directions show the ground, 0: nothing
in vec2 place;
out vec4 colour;

// How much of a pixel, which spans this many radians, the lines cover that are drawn every "step" radians.
// "scale": radians on the sphere per radian of the angle.
float lines(float angle, float step, float scale, float pixel) {
    float distance = abs(fract(angle / step + 0.5) - 0.5) * step * scale;
    return 1.0 - smoothstep(0.5 * pixel, 1.5 * pixel, distance);
}

// Dark, with the parallels and meridians of every 15 degrees. In the polar caps only every sixth meridian goes on.
vec3 groundAt(float longitude, float latitude, float pixel) {
    float step = PI / 12.0;
    float meridians = lines(longitude, abs(latitude) < 5.01 * step ? step : 6.0 * step, cos(latitude), pixel);
    float parallels = lines(latitude, step, 1.0, pixel);
    return mix(GROUND, GRID, max(meridians, parallels));
}

void main() {
    vec3 ray = worldFromCamera * normalize(vec3(place * halfPlane * vec2(1.0, -1.0), 1.0));
    float longitude = atan(ray.x + TINY, ray.z);
    float latitude = atan(TINY - ray.y, length(ray.xz));
    // The level follows from the direction, which is smooth everywhere: longitude jumps behind us and spins at the
    // poles, where levels taken from texture coordinates would smear.
    float pixel = max(length(dFdx(ray)), length(dFdy(ray))); // radians
    float level = log2(pixel * float(textureSize(panorama, 0).y) / PI);
    colour = textureLod(panorama, vec2(0.5 + longitude / (2.0 * PI), 0.5 - latitude / PI), level);
    if (colour.a < 1.0) colour += ground * (1.0 - colour.a) * vec4(groundAt(longitude, latitude, pixel), 1.0);
}`;
