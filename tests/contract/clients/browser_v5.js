// @deepgram/sdk 5 in a page, loaded by its script tag. `task.audio` is base64.
async (task) => {
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const client = new Deepgram.DeepgramClient({ apiKey: task.key, baseUrl: `ws://${task.host}` });
  const messages = [], closes = [];
  const connection = await client.listen.v1.connect({
    model: "nova-3", encoding: "linear16", sample_rate: 16000, interim_results: true, punctuate: true, vad_events: true,
  });
  connection.on("message", (message) => messages.push(message));
  connection.on("close", (event) => closes.push(event.code));
  connection.connect();
  await connection.waitForOpen();
  const audio = Uint8Array.from(atob(task.audio), (c) => c.charCodeAt(0));
  for (let i = 0; i < audio.length; i += 3200) {
    connection.sendMedia(audio.slice(i, i + 3200));
    await sleep(20);
  }
  connection.sendFinalize({ type: "Finalize" });
  for (let i = 0; i < 1000 && !messages.some((m) => m.from_finalize); i++) await sleep(20);
  connection.sendCloseStream({ type: "CloseStream" });
  for (let i = 0; i < 1000 && !closes.length; i++) await sleep(20);
  return { messages, closes };
}
