// openai 7 in Node as an application uses it. Prints what happened as JSON.
import { createReadStream } from "node:fs";
import OpenAI, { APIError, toFile } from "openai";

const task = JSON.parse(process.argv[2]);
const client = new OpenAI({ baseURL: `http://${task.host}/v1`, apiKey: task.key });
const recording = () => createReadStream(task.wav);
const speech = client.audio.transcriptions;
const VAD = { type: "server_vad", threshold: 0.5, prefix_padding_ms: 300, silence_duration_ms: 300 };

// What came over the wire, and what the client made of it.
async function whole() {
  const told = {};
  for (const response_format of ["json", "text", "srt", "vtt", "verbose_json", "diarized_json"]) {
    const wishes = {
      file: recording(), model: "gpt-4o-transcribe", response_format, language: "en", temperature: 0.2, prompt: "Trains.",
      chunking_strategy: VAD,
    };
    if (response_format === "verbose_json") wishes.timestamp_granularities = ["word", "segment"];
    if (response_format === "json") wishes.include = ["logprobs"];
    const { data, response } = await speech.create(wishes).withResponse();
    const idle = response.headers.get("x-voiceforge-not-in-effect");
    const raw = typeof data === "string" ? data : JSON.stringify(data);
    told[response_format] = { raw, text: typeof data === "string" ? data : data.text, idle };
  }
  return told;
}

const wholly = async (file) => speech.create({ file, model: "whisper-1" });
const streamed = async (wishes) => {
  const events = [];
  for await (const event of await speech.create({ file: recording(), stream: true, ...wishes })) events.push(event);
  return events;
};

async function stream() {
  return {
    plain: await streamed({ model: "gpt-4o-mini-transcribe", include: ["logprobs"], chunking_strategy: "auto" }),
    diarized: await streamed({ model: "gpt-4o-transcribe-diarize", response_format: "diarized_json" }),
  };
}

async function models() {
  const list = [];
  for await (const model of client.models.list()) list.push(model);
  return { list, ours: await client.models.retrieve("nano"), theirs: await client.models.retrieve("whisper-1") };
}

async function refused(asked) {
  try {
    await asked;
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    const { type, code, param } = error;
    return { class: error.constructor.name, status: error.status, body: { error: error.error }, type, code, param };
  }
  throw new Error("was not refused");
}

async function refusals() {
  const noise = () => toFile(Buffer.from("no audio".repeat(100)), "a.wav");
  return {
    translation: await refused(client.audio.translations.create({ file: recording(), model: "whisper-1" })),
    model: await refused(speech.create({ file: recording(), model: "parrot" })),
    empty: await refused(wholly(await toFile(Buffer.alloc(0), "a.wav"))),
    "no audio": await refused(wholly(await noise())),
    "no audio to stream": await refused(speech.create({ file: await noise(), model: "whisper-1", stream: true })),
    "too large": await refused(wholly(await toFile(Buffer.alloc(30_000_000), "a.wav"))),
    format: await refused(speech.create({ file: recording(), model: "whisper-1", response_format: "xml" })),
    retrieve: await refused(client.models.retrieve("parrot")),
  };
}

async function wrong_key() {
  return { models: await refused(client.models.list()), speech: await refused(wholly(recording())) };
}

const tasks = { whole, default: () => wholly(recording()), stream, models, refusals, wrong_key };
process.stdout.write(JSON.stringify(await tasks[task.do]()), () => process.exit(0));
