// @deepgram/sdk 5 in Node, as an application uses it. Prints what happened as JSON.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { DeepgramClient } from "deepgram-sdk-v5";

const task = JSON.parse(process.argv[2]);
const http = `http://${task.host}`, ws = `ws://${task.host}`;
const client = new DeepgramClient({
  apiKey: task.key,
  environment: { base: http, production: ws, agent: ws, agentRest: http },
});
const settings = {
  model: "nova-3", encoding: "linear16", sample_rate: 16000, interim_results: true, punctuate: true, vad_events: true,
  endpointing: 300, utterance_end_ms: 1000, keyterm: ["VoiceForge", "Triton"], replace: ["London:Paris"],
};

async function send(connection) {
  const audio = readFileSync(task.audio);
  for (let i = 0; i < audio.length; i += 3200) {
    connection.sendMedia(audio.subarray(i, i + 3200));
    await sleep(20);
  }
}

async function until(condition, ms = 20000) {
  for (const end = Date.now() + ms; Date.now() < end && !condition(); ) await sleep(20);
  return condition();
}

async function live() {
  const messages = [], closes = [];
  const connection = await client.listen.v1.connect(settings);
  connection.on("message", (message) => messages.push(message));
  connection.on("close", (event) => closes.push(event.code));
  connection.connect();
  await connection.waitForOpen();
  await send(connection);
  connection.sendKeepAlive({ type: "KeepAlive" });
  connection.sendFinalize({ type: "Finalize" });
  await until(() => messages.some((m) => m.from_finalize));
  connection.sendCloseStream({ type: "CloseStream" });
  await until(() => closes.length);
  return { messages, closes };
}

// The server ends a silent stream with NET-0001; the client connects again by itself.
async function reconnect() {
  const messages = [], closes = [];
  let opened = 0;
  const connection = await client.listen.v1.connect(settings);
  connection.on("open", () => opened++);
  connection.on("message", (message) => messages.push(message));
  connection.on("close", (event) => closes.push(event.code));
  connection.connect();
  await until(() => opened === 2);
  await send(connection);
  connection.sendCloseStream({ type: "CloseStream" });
  await until(() => closes.length === 2);
  return { messages: messages.filter((m) => m.type === "Results"), closes, opened };
}

async function wrong_key() {
  const errors = [];
  const connection = await client.listen.v1.connect({ ...settings, reconnectAttempts: 0 });
  connection.on("error", (error) => errors.push(error.message));
  connection.connect();
  await until(() => errors.length);
  let recorded;
  try {
    await client.listen.v1.media.transcribeFile(readFileSync(task.wav), { model: "nova-3" });
  } catch (error) {
    recorded = [error.statusCode, error.body.err_code];
  }
  return { live: errors[0], recorded };
}

async function recorded() {
  const wishes = { model: "nova-3", punctuate: true, utterances: true, paragraphs: true };
  const sent = await client.listen.v1.media.transcribeFile(readFileSync(task.wav), wishes);
  const fetched = await client.listen.v1.media.transcribeUrl({ url: task.url, ...wishes });
  return { sent, fetched };
}

process.stdout.write(JSON.stringify(await { live, reconnect, wrong_key, recorded }[task.do]()), () => process.exit(0));
