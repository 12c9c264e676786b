// Draws points by WebGL2. One draw call paints them in the order of the buffers; a prefix of a shuffled order is a fair
// sample, so that a slow machine paints fewer points while the view moves, and all of them when it rests.

const VERTEX = `#version 300 es
in vec3 place;
in vec4 colour;
uniform mat3 turn;
uniform vec3 centre;
uniform vec3 scale;  // clip units per unit of the map; z only orders points in depth
uniform float size;
out vec4 shade;
out float far;
void main() {
  vec3 seen = turn * (place - centre) * scale;
  gl_Position = vec4(seen.xy, clamp(seen.z, -0.99, 0.99), 1.0);
  gl_PointSize = size * colour.a * 2.0;  // 0.5 is the usual size
  shade = vec4(colour.rgb, 1.0);
  far = clamp(0.5 * seen.z + 0.5, 0.0, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 shade;
in float far;
uniform vec3 paper;
uniform float opacity, fade, haze, sharp;
out vec4 painted;
void main() {
  float cover = 1.0;
  if (sharp > 0.0) {  // a disc with a soft edge; small points stay squares, which cost less
    float away = length(gl_PointCoord - 0.5) * 2.0;
    cover = clamp((1.0 - away) * sharp, 0.0, 1.0);
    if (cover <= 0.0) discard;
  }
  vec3 ink = mix(shade.rgb, paper, max(fade, haze * far));
  painted = vec4(ink, 1.0) * opacity * cover;
}`;
const ROUND_FROM_PX = 3.2;
const SLOW_MS = 42; // a frame that takes longer makes the next ones paint fewer points
const FEWEST = 4000;
const FIRST_SAMPLE = 30000; // until the machine has shown what it can do

export class PointRenderer {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.sample = FIRST_SAMPLE; // points that a moving frame paints
    this.groups = [];
    this.held = null;
    this.setUp();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.setUp(); if (this.held) this.load(...this.held); this.onRestored?.(); });
  }

  setUp() {
    const gl = this.canvas.getContext("webgl2", { antialias: false, alpha: true, premultipliedAlpha: true, powerPreference: "high-performance" });
    if (!gl) throw new Error("This browser offers no WebGL2, with which the map is drawn. Turn on hardware acceleration, or try another browser.");
    const shader = (kind, source) => {
      const made = gl.createShader(kind);
      gl.shaderSource(made, source);
      gl.compileShader(made);
      return made;
    };
    const program = gl.createProgram();
    gl.attachShader(program, shader(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, shader(gl.FRAGMENT_SHADER, FRAGMENT));
    gl.bindAttribLocation(program, 0, "place");
    gl.bindAttribLocation(program, 1, "colour");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(`The map's shaders: ${gl.getProgramInfoLog(program)}`);
    gl.useProgram(program);
    const names = ["turn", "centre", "scale", "size", "paper", "opacity", "fade", "haze", "sharp"];
    this.at = Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(program, name)]));
    this.buffers = [gl.createBuffer(), gl.createBuffer()];
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[0]);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[1]);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, true, 0, 0);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.depthFunc(gl.LEQUAL);
    this.gl = gl;
  }

  /** Take points in the order of painting.
   *  @param {Float32Array} places x, y, z of each.
   *  @param {Uint8Array} colours Red, green, blue, and size (128: the usual) of each.
   *  @param {{start: number, count: number, fade: number}[]} groups Ranges; `fade` is the share of paper in their colour. */
  load(places, colours, groups) {
    const { gl } = this;
    for (const [place, data] of [places, colours].entries()) {
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[place]);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    }
    this.groups = groups;
    this.held = [places, colours, groups];
  }

  /** Points that a frame paints, of each group: bright ones first where not all can be. */
  counts(isMoving) {
    let left = isMoving ? this.sample : Infinity;
    const counts = new Array(this.groups.length).fill(0);
    for (let place = this.groups.length - 1; place >= 0; place--) {
      counts[place] = Math.min(this.groups[place].count, Math.max(left, FEWEST));
      left -= counts[place];
    }
    return counts;
  }

  /** Paint. `view` holds turn (9 numbers), centre (3), scale (3), size and opacity; `paper` is the background's colour. */
  draw(view, paper, isMoving) {
    const { gl, at, canvas } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (view.isDeep) gl.enable(gl.DEPTH_TEST); else gl.disable(gl.DEPTH_TEST);
    gl.uniformMatrix3fv(at.turn, false, view.turn);
    gl.uniform3fv(at.centre, view.centre);
    gl.uniform3fv(at.scale, view.scale);
    gl.uniform3fv(at.paper, paper);
    gl.uniform1f(at.size, view.size);
    gl.uniform1f(at.sharp, view.size < ROUND_FROM_PX ? 0 : view.size / 2);
    gl.uniform1f(at.haze, view.isDeep ? 0.7 : 0);
    const counts = this.counts(isMoving);
    for (const [place, group] of this.groups.entries()) {
      gl.uniform1f(at.fade, group.fade);
      gl.uniform1f(at.opacity, view.isDeep ? 1 : view.opacity);
      if (counts[place]) gl.drawArrays(gl.POINTS, group.start, counts[place]);
    }
  }

  /** Learn from the time between two frames of a movement how many points can be painted. */
  pace(elapsed_ms) {
    const all = this.groups.reduce((sum, group) => sum + group.count, 0);
    const now = Math.min(this.sample, all);
    if (elapsed_ms > SLOW_MS) this.sample = Math.max(FEWEST, now * Math.max(0.25, SLOW_MS / elapsed_ms));
    else if (elapsed_ms < 0.6 * SLOW_MS && this.sample < all) this.sample = now * 1.3;
  }
}
