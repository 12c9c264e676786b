// Draws points by WebGL2. One draw call paints them in the order of the buffers; a prefix of a shuffled order is a fair
// sample, so that a slow machine paints fewer points while the view moves, and all of them when it rests. Below the sample
// moves a picture of the view at rest, so that the map does not seem to lose its points.

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
const PICTURE_VERTEX = `#version 300 es
uniform vec4 place;  // scale and shift from the picture's clip space to the view's
out vec2 at;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
  at = 0.5 * corner + 0.5;
  gl_Position = vec4(corner * place.xy + place.zw, 0.0, 1.0);
}`;
const PICTURE_FRAGMENT = `#version 300 es
precision highp float;
in vec2 at;
uniform sampler2D picture;
uniform vec3 paper;
uniform float fade;
out vec4 painted;
void main() { painted = vec4(mix(texture(picture, at).rgb, paper, fade), 1.0); }`;
const FADES_FROM = 1.3, FADES_TO = 5; // times the picture is enlarged
const ROUND_FROM_PX = 3.2;
const AIM_MS = 36; // a frame that takes longer makes the next ones paint fewer points, a shorter one more
const FEWEST = 4000;
const IN_WORK = 2; // frames: while one is painted the next is prepared
const GIVEN_UP_MS = 1000; // a driver that does not tell when a frame is done holds up no other
const FIRST_SAMPLE = 30000; // until the machine has shown what it can do

export class PointRenderer {
  /** @param {HTMLCanvasElement} canvas
   *  @param {boolean} isOpaque Nothing below the canvas is to be seen: the browser has a quarter less to do for a frame. */
  constructor(canvas, isOpaque) {
    Object.assign(this, { canvas, isOpaque });
    this.pending = []; // of frames that are being painted: the fence behind them, and when they were begun
    this.ended_ms = 0; // of the last frame
    this.sample = FIRST_SAMPLE; // points that a moving frame paints
    this.groups = [];
    this.held = null;
    this.setUp();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.setUp(); if (this.held) this.load(...this.held); this.onRestored?.(); });
  }

  setUp() {
    const gl = this.canvas.getContext("webgl2", { antialias: false, alpha: !this.isOpaque, premultipliedAlpha: true, powerPreference: "high-performance" });
    if (!gl) throw new Error("This browser offers no WebGL2, with which the map is drawn. Turn on hardware acceleration, or try another browser.");
    const shader = (kind, source) => {
      const made = gl.createShader(kind);
      gl.shaderSource(made, source);
      gl.compileShader(made);
      return made;
    };
    const linked = (vertex, fragment, names) => {
      const program = gl.createProgram();
      gl.attachShader(program, shader(gl.VERTEX_SHADER, vertex));
      gl.attachShader(program, shader(gl.FRAGMENT_SHADER, fragment));
      gl.bindAttribLocation(program, 0, "place");
      gl.bindAttribLocation(program, 1, "colour");
      gl.linkProgram(program);
      if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(`The map's shaders: ${gl.getProgramInfoLog(program)}`);
      return { program, ...Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(program, name)])) };
    };
    this.at = linked(VERTEX, FRAGMENT, ["turn", "centre", "scale", "size", "paper", "opacity", "fade", "haze", "sharp"]);
    this.below = linked(PICTURE_VERTEX, PICTURE_FRAGMENT, ["place", "paper", "fade"]);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    this.pictured = null; // the view that the texture holds
    this.buffers = [gl.createBuffer(), gl.createBuffer()];
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[0]);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[1]);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, true, 0, 0);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.depthFunc(gl.LEQUAL);
    this.gl = gl;
    this.pending = [];
  }

  /** Paint the background alone; an opaque canvas would be black otherwise. */
  clear(paper) {
    const { gl } = this;
    gl.clearColor(...(this.isOpaque ? [...paper, 1] : [0, 0, 0, 0]));
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
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
    this.pictured = null;
    this.held = [places, colours, groups];
  }

  get nPoints() { return this.groups.reduce((sum, group) => sum + group.count, 0); }

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
    this.clear(paper);
    const counts = this.counts(isMoving);
    const isSample = counts.some((count, place) => count < this.groups[place].count);
    if (isSample && this.pictured) this.drawPicture(view, paper);
    gl.useProgram(at.program);
    gl.enable(gl.BLEND);
    if (view.isDeep) gl.enable(gl.DEPTH_TEST); else gl.disable(gl.DEPTH_TEST);
    gl.uniformMatrix3fv(at.turn, false, view.turn);
    gl.uniform3fv(at.centre, view.centre);
    gl.uniform3fv(at.scale, view.scale);
    gl.uniform3fv(at.paper, paper);
    gl.uniform1f(at.size, view.size);
    gl.uniform1f(at.sharp, view.size < ROUND_FROM_PX ? 0 : view.size / 2);
    gl.uniform1f(at.haze, view.isDeep ? 0.7 : 0);
    for (const [place, group] of this.groups.entries()) {
      gl.uniform1f(at.fade, group.fade);
      gl.uniform1f(at.opacity, view.isDeep ? 1 : view.opacity);
      if (counts[place]) gl.drawArrays(gl.POINTS, group.start, counts[place]);
    }
    if (!isMoving) this.takePicture(view);
    this.pending.push({ fence: gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0), begun_ms: performance.now(), isMoving });
    gl.flush();
  }

  /** Keep what has been painted, if not all points can be painted while the view moves: of a plane with nothing below. */
  takePicture(view) {
    const { gl, canvas } = this;
    this.pictured = null;
    if (!this.isOpaque || view.isDeep || this.sample >= this.nPoints) return;
    gl.copyTexImage2D(gl.TEXTURE_2D, 0, gl.RGB, 0, 0, canvas.width, canvas.height, 0);
    this.pictured = { centre: [...view.centre], scale: view.scale };
  }

  /** Paint the view at rest where it lies now, the paler the more it is enlarged. */
  drawPicture({ turn, centre, scale }, paper) {
    const { gl, below, pictured } = this;
    const ratio = scale[0] / pictured.scale[0];
    if (ratio >= FADES_TO) return;
    const away = [0, 1].map((axis) => pictured.centre[axis] - centre[axis]);
    const [right, up] = [0, 1].map((line) => (turn[line] * away[0] + turn[3 + line] * away[1]) * scale[line]);
    gl.useProgram(below.program);
    gl.disable(gl.BLEND);
    gl.disable(gl.DEPTH_TEST);
    gl.uniform4f(below.place, ratio, scale[1] / pictured.scale[1], right, up);
    gl.uniform3fv(below.paper, paper);
    gl.uniform1f(below.fade, Math.max(0, (ratio - FADES_FROM) / (FADES_TO - FADES_FROM)));
    const filter = ratio === 1 ? gl.NEAREST : gl.LINEAR; // what is only shifted needs no mixing of pixels, which costs more
    for (const way of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, way, filter);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /** True while enough frames are being painted. The end of one tells how many points the next ones of a movement can have. */
  isBusy() {
    const { gl, pending } = this;
    while (pending.length && (gl.isContextLost() || gl.getSyncParameter(pending[0].fence, gl.SYNC_STATUS) === gl.SIGNALED)) {
      const { fence, begun_ms, isMoving } = pending.shift();
      gl.deleteSync(fence);
      const now = performance.now();
      if (isMoving) this.pace(now - Math.max(begun_ms, this.ended_ms)); // not what it waited for the frame before
      this.ended_ms = now;
    }
    return pending.length >= IN_WORK && performance.now() - pending[0].begun_ms < GIVEN_UP_MS;
  }

  /** Learn from the time that a frame of a movement took how many points can be painted. One frame changes little: another
   *  program may have kept the processor busy. */
  pace(elapsed_ms) {
    const change = Math.max(0.7, Math.min(1.3, Math.sqrt(AIM_MS / elapsed_ms)));
    this.sample = Math.max(FEWEST, Math.min(this.nPoints, this.sample * change));
  }
}
