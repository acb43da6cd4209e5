// openai's Realtime transcription in a page, over the browser's own WebSocket. `task.audio` is base64.
async (task) => {
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const { default: OpenAI } = await import("/openai/index.mjs");
  const { OpenAIRealtimeWebSocket } = await import(`/openai/${task.beta ? "beta/" : ""}realtime/websocket.mjs`);
  const client = new OpenAI({ apiKey: task.key, baseURL: `https://${task.host}/v1`, dangerouslyAllowBrowser: true });
  const realtime = new OpenAIRealtimeWebSocket(task.beta ? { model: "gpt-4o-realtime-preview" } : { intent: "transcription" }, client);
  const events = [], errors = [];
  realtime.on("event", (event) => events.push(event));
  realtime.on("error", (error) => errors.push(error.message));
  const saw = (type, n = 1) => events.filter((event) => event.type === type).length >= n;
  const until = async (condition) => { for (let i = 0; i < 3000 && !condition() && !errors.length; i++) await sleep(20); };
  await until(() => saw("session.created"));
  const transcription = { model: "gpt-4o-transcribe", language: "en" }, turn_detection = { type: "server_vad" };
  realtime.send(task.beta
    ? { type: "transcription_session.update", session: { input_audio_format: "pcm16", input_audio_transcription: transcription, turn_detection } }
    : { type: "session.update", session: { type: "transcription", audio: { input: { transcription, turn_detection } } } });
  const audio = atob(task.audio);
  for (let i = 0; i < audio.length && !errors.length; i += 4800) {
    realtime.send({ type: "input_audio_buffer.append", audio: btoa(audio.slice(i, i + 4800)) });
    await sleep(20);
  }
  await until(() => saw("conversation.item.input_audio_transcription.completed", 2));
  const protocol = realtime.socket.protocol;
  realtime.close();
  return { events, errors, protocol };
}
