// Collects the microphone's samples into chunks of about 64 ms and hands them over as int16.
const CHUNK = 1024;

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = new Int16Array(CHUNK);
    this.length = 0;
  }

  process([input]) {
    const channel = input[0];
    if (!channel) return true;
    for (const sample of channel) {
      this.buffer[this.length++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.length === CHUNK) {
        this.port.postMessage(this.buffer.slice());
        this.length = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
