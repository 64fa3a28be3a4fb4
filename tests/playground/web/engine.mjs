// Runs one task of the engine for the tests: {"task": name, …} on standard input, the result as JSON on standard output.
import { readFile } from "node:fs/promises";
import { Refusal, loadRelease } from "../../../playground/web/engine/release.js";
import { inspectToken } from "../../../playground/web/engine/inspection.js";
import { Uniforms } from "../../../playground/web/engine/random.js";
import { checkRequest } from "../../../playground/web/engine/request.js";
import { rotaryAngles } from "../../../playground/web/engine/rotary.js";
import { dimensions, readShape, routingRows } from "../../../playground/web/engine/shape.js";
import { checkTampering, readTampering, toTexts } from "../../../playground/web/engine/tampering.js";
import { Tokenizer } from "../../../playground/web/engine/tokenizer.js";
import { weightShapes } from "../../../playground/web/engine/weights.js";

const open = async (folder, weights = "fp32", mtp = false) => {
  const wasm = await readFile(new URL(`../../../playground/web/decoder-${weights}.wasm`, import.meta.url));
  return loadRelease((name) => readFile(`${folder}/${name}`), { wasm, mtp, name: folder.split("/").at(-1) });
};

const attempt = async (work) => {
  try {
    return { result: await work() };
  } catch (error) {
    return { error: error.constructor.name, message: error.message };
  }
};

const tasks = {
  shapes: ({ configs }) =>
    configs.map((config) => {
      const shape = readShape(config),
        { cos, sin } = rotaryAngles(shape);
      return {
        dimensions: dimensions(shape),
        weights: Object.fromEntries(weightShapes(shape, shape.num_nextn_predict_layers > 0)),
        rows: routingRows(shape),
        cos: [...cos],
        sin: [...sin],
      };
    }),
  uniforms: ({ seeds, count }) =>
    seeds.map((seed) => {
      const uniforms = new Uniforms(seed);
      return Array.from({ length: count }, (_, index) => uniforms.get(index));
    }),
  async tokens({ file, texts }) {
    const tokenizer = new Tokenizer(JSON.parse(await readFile(file, "utf8")));
    return texts.map((text) => {
      const ids = tokenizer.encode(text),
        stream = tokenizer.decodeStream();
      return { ids, text: tokenizer.decode(ids), added: ids.map(stream) };
    });
  },
  refusals: ({ config, requests, texts }) =>
    requests.map((request) => {
      try {
        return checkRequest("tiny", readShape(config), request);
      } catch (error) {
        return error instanceof Refusal ? error.tell(texts) : error.message;
      }
    }),
  tamperings: ({ config, values }) =>
    values.map((value) => {
      try {
        const tampering = readTampering(value);
        checkTampering(tampering, readShape(config));
        return toTexts(tampering);
      } catch (error) {
        return error.message;
      }
    }),
  async events({ folder, weights, mtp, requests }) {
    const release = await open(folder, weights, mtp);
    return requests.map((request) => [...release.generate(request)]);
  },
  async inspections({ folder, requests }) {
    const release = await open(folder);
    return requests.map((request) => release.inspect(request));
  },
  async told({ folder, asked }) {
    const release = await open(folder);
    return asked.map((one) => inspectToken(release, one));
  },
  async turns({ folder, requests }) {
    const release = await open(folder),
      running = requests.map((request) => release.generate(request)),
      events = requests.map(() => []);
    for (let left = running.length; left;) {
      left = 0;
      running.forEach((events_, at) => {
        const { value, done } = events_.next();
        if (!done) left += events[at].push(value) > 0;
      });
    }
    return events;
  },
  async memory({ folder, request, rounds }) {
    const release = await open(folder),
      sizes = [];
    for (let round = 0; round < rounds; round++) {
      for (const event of release.generate(request)) if (event.kind === "step" && event.i > 8) break;
      sizes.push(release.model.buffer.byteLength);
    }
    return sizes;
  },
  loads: ({ folders }) => Promise.all(folders.map((folder) => attempt(() => open(folder).then(() => true)))),
  async speed({ folder, tokens, rounds }) {
    const release = await open(folder),
      ids = release.encode("# Pergunta:\nQuanto é 27 + 48?\n--\n# Resposta:\n");
    const decoder = release.model.decoder(),
      context = release.shape.max_position_embeddings,
      found = { write: [], read: [] };
    const seconds = (work) => {
      const before = process.cpuUsage();
      work();
      const { user, system } = process.cpuUsage(before);
      return (user + system) / 1e6;
    };
    for (let round = 0; round < rounds; round++) {
      decoder.rewind(0);
      decoder.setSampling(
        { temperature: 0, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1 },
        context,
        release.ends,
      );
      decoder.read(ids);
      const count = Math.min(tokens, decoder.room);
      found.write.push(count / seconds(() => Array.from({ length: count }, () => decoder.draw(0))));
      decoder.rewind(0);
      const window = Array.from({ length: context }, (_, i) => ids[i % ids.length]);
      found.read.push(context / seconds(() => decoder.read(window)));
    }
    return found;
  },
};

let input = "";
for await (const chunk of process.stdin) input += chunk;
const { task, ...values } = JSON.parse(input);
process.stdout.write(JSON.stringify(await tasks[task](values)));
