// What runs in the thread of the sound.

// Plays samples that it is sent, after one another; null says that no more follow. When it runs dry it waits for `lead` samples.
class Player extends AudioWorkletProcessor {
  constructor({ processorOptions: { lead } }) {
    super();
    Object.assign(this, { lead, pieces: [], at: 0, waiting: 0, heard: 0, gaps: 0, playing: false, ended: false });
    this.port.onmessage = ({ data }) => {
      if (data === null) this.ended = true;
      else if (data.length) {
        this.pieces.push(data);
        this.waiting += data.length;
      }
    };
  }

  process(inputs, [[out]]) {
    if (this.waiting >= this.lead || this.ended) this.playing = true;
    for (let i = 0; this.playing && i < out.length; i++) {
      if (!this.waiting) {
        this.playing = false;
        this.gaps += this.ended ? 0 : 1;
        break;
      }
      out[i] = this.pieces[0][this.at++];
      this.waiting--;
      this.heard++;
      if (this.at === this.pieces[0].length) {
        this.pieces.shift();
        this.at = 0;
      }
    }
    const done = this.ended && !this.waiting;
    this.port.postMessage({ heard: this.heard, gaps: this.gaps, done });
    return !done;
  }
}

// Sends what it hears.
class Recorder extends AudioWorkletProcessor {
  process([[heard]]) {
    if (heard) this.port.postMessage(heard.slice());
    return true;
  }
}

registerProcessor("player", Player);
registerProcessor("recorder", Recorder);
