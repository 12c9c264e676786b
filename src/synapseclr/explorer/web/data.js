// What the server, or a folder of files, knows of the run. Ids stay text or BigInt: numbers would round them.

async function fetched(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The explorer does not answer. Is “kedro explore” still running?");
  }
  if (answer.ok) return answer;
  let reason = `${path}: status ${answer.status}`;
  if ((answer.headers.get("Content-Type") || "").includes("json")) reason = (await answer.json()).error || reason;
  throw new Error(reason);
}

const json = async (path) => (await fetched(path)).json();
const binary = async (path) => (await fetched(path)).arrayBuffer();

async function posted(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await fetched(path, options)).json();
}

export class Run {
  static async open() {
    const run = new Run();
    const [about, ids] = await Promise.all([json("api/overview.json"), binary("api/ids.bin")]);
    run.about = about;
    run.n = about.n;
    run.canAsk = !about.is_static;
    run.ids = new BigInt64Array(ids);
    run.kept = new Map();
    return run;
  }

  idOf(row) { return this.ids[row].toString(); }

  rowOf(id) {
    if (!/^\d{1,19}$/.test(id)) return -1;
    return this.ids.indexOf(BigInt(id));
  }

  once(key, make) {
    if (!this.kept.has(key)) {
      const made = make();
      made.catch(() => this.kept.delete(key));
      this.kept.set(key, made);
    }
    return this.kept.get(key);
  }

  /** Rows of ids, those that the run has. */
  rowsOf(ids) {
    if (ids.length < 20) return ids.map((id) => this.rowOf(id)).filter((row) => row >= 0);
    this.places ??= new Map(Array.from(this.ids, (id, row) => [id.toString(), row]));
    return ids.map((id) => this.places.get(id)).filter((row) => row !== undefined);
  }

  /** Positions of all synapses on a map: x, y, and z where it is in space. */
  plane(name) {
    const number = Math.max(0, this.about.planes.indexOf(name));
    return this.once(`plane ${number}`, async () => {
      const values = new Float32Array(await binary(`api/plane/${number}.bin`));
      const [x, y, z] = [0, 1, 2].map((axis) => values.subarray(axis * this.n, (axis + 1) * this.n));
      return { x, y, z: z.length ? z : null };
    });
  }

  columnNamed(name) { return this.about.columns.find((column) => column.name === name); }

  /** One value per synapse, NaN where there is none. */
  values(name) {
    const number = this.about.columns.findIndex((column) => column.name === name);
    return this.once(`column ${number}`, async () => new Float32Array(await binary(`api/column/${number}.bin`)));
  }

  /** Add a column that the page made itself, or replace its values: saved labels, a neurite's synapses, what was learnt. */
  setColumn(column, values) {
    const made = { isMade: true, group: "From this page", unit: "", classes: [], ...column };
    const number = this.about.columns.findIndex((other) => other.name === made.name);
    if (number >= 0) this.about.columns[number] = made;
    else this.about.columns.push(made);
    this.kept.set(`column ${number >= 0 ? number : this.about.columns.length - 1}`, Promise.resolve(values));
    this.onColumns?.();
  }

  /** Root ids of one side of all synapses; 0n where they are not known. */
  roots(name) {
    return this.once(`roots ${name}`, async () => new BigUint64Array(await binary(`api/roots/${name}.bin`)));
  }

  details(id) { return json(`api/synapse/${id}/details.json`); }

  scene(id) { return json(`api/synapse/${id}/scene.json`); }

  picture(id, name) { return `api/synapse/${id}/${name}`; }

  get hasPictures() { return this.about.chunk_size_vx !== null; }

  summary(ids) { return posted("api/summary", { ids }); }

  search(ids, kind, k) { return posted("api/search", { ids, kind, k }); }

  saveLabel(ids, label, chosenBy) { return posted("api/labels", { ids, label, chosen_by: chosenBy }); }

  savedLabels() { return json("api/labels.json"); }

  withdraw(table) { return posted("api/labels/withdraw", { table }); }

  acceptDefects(ids) { return posted("api/defects", { ids }); }

  whySimilar(id, other) { return json(`api/synapse/${id}/similar/${other}.json`); }

  neuroglancer(ids, column) { return posted("api/neuroglancer", { ids, column }); }

  /** Probability of every synapse to be like the ticked ones. */
  async learn(ids, without) {
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ids, without }) };
    return new Float32Array(await (await fetched("api/learn", options)).arrayBuffer());
  }
}
