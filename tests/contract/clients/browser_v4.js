// @deepgram/sdk 4 in a page, loaded by its script tag. `task.audio` is base64.
async (task) => {
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const client = deepgram.createClient(task.key, { global: { websocket: { options: { url: `ws://${task.host}` } } } });
  const connection = client.listen.live({
    model: "nova-2", encoding: "linear16", sample_rate: 16000, interim_results: true, punctuate: true, vad_events: true,
  });
  const messages = [], closes = [];
  for (const event of ["Results", "Metadata", "UtteranceEnd", "SpeechStarted"]) connection.on(event, (m) => messages.push(m));
  connection.on("close", (event) => closes.push(event.code));
  while (!connection.isConnected()) await sleep(20);
  const audio = Uint8Array.from(atob(task.audio), (c) => c.charCodeAt(0));
  for (let i = 0; i < audio.length; i += 3200) {
    connection.send(audio.slice(i, i + 3200).buffer);
    await sleep(20);
  }
  connection.finalize();
  for (let i = 0; i < 1000 && !messages.some((m) => m.from_finalize); i++) await sleep(20);
  connection.requestClose();
  for (let i = 0; i < 1000 && !closes.length; i++) await sleep(20);
  return { messages, closes };
}
