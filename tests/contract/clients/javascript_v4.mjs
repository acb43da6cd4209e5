// @deepgram/sdk 4 in Node, as an application uses it. Prints what happened as JSON.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import deepgram from "deepgram-sdk-v4";

const task = JSON.parse(process.argv[2]);
const { createClient, LiveTranscriptionEvents } = deepgram;
const client = createClient(task.key, { global: { url: `http://${task.host}`, websocket: { options: { url: `ws://${task.host}` } } } });
const settings = {
  model: "nova-2", encoding: "linear16", sample_rate: 16000, interim_results: true, punctuate: true, vad_events: true,
  endpointing: 300, utterance_end_ms: 1000, keywords: ["VoiceForge:2", "Triton"],
};

async function until(condition, ms = 20000) {
  for (const end = Date.now() + ms; Date.now() < end && !condition(); ) await sleep(20);
  return condition();
}

async function stream(connection) {
  const audio = readFileSync(task.audio);
  for (let i = 0; i < audio.length; i += 3200) {
    connection.send(audio.subarray(i, i + 3200));
    await sleep(20);
  }
}

function listen(connection) {
  const heard = { messages: [], unhandled: [], closes: [], errors: [] };
  for (const event of ["Results", "Metadata", "UtteranceEnd", "SpeechStarted"]) connection.on(event, (m) => heard.messages.push(m));
  connection.on(LiveTranscriptionEvents.Unhandled, (m) => heard.unhandled.push(m));
  connection.on(LiveTranscriptionEvents.Close, (event) => heard.closes.push(event.code));
  connection.on(LiveTranscriptionEvents.Error, (error) => heard.errors.push(error.statusCode ?? String(error.message)));
  return heard;
}

async function live() {
  const connection = client.listen.live(settings);
  const heard = listen(connection);
  await until(() => connection.isConnected());
  connection.configure({ numerals: true });
  await stream(connection);
  connection.keepAlive();
  connection.finalize();
  await until(() => heard.messages.some((m) => m.from_finalize));
  connection.requestClose();
  await until(() => heard.closes.length);
  return heard;
}

async function wrong_key() {
  const heard = listen(client.listen.live(settings));
  await until(() => heard.errors.length);
  const { error } = await client.listen.prerecorded.transcribeFile(readFileSync(task.wav), { model: "nova-2" });
  return { live: heard.errors[0], recorded: [error.status, JSON.parse(error.message).err_code] };
}

async function recorded() {
  const wishes = { model: "nova-2", punctuate: true, utterances: true, paragraphs: true };
  const sent = await client.listen.prerecorded.transcribeFile(readFileSync(task.wav), wishes);
  const fetched = await client.listen.prerecorded.transcribeUrl({ url: task.url }, wishes);
  return { sent: sent.result, fetched: fetched.result, errors: [sent.error, fetched.error] };
}

process.stdout.write(JSON.stringify(await { live, wrong_key, recorded }[task.do]()), () => process.exit(0));
