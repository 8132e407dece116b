import { KotodamaError } from '../errors.js';
import { secondsSince } from './clock.js';
import type { SampleEvent, WarningEvent } from './events.js';
import type { TrainingOptions } from './options.js';
import type { TrainerOptions } from './trainer-options.js';

/** Texts that a run lets its model write. */
export class Samples {
  /** Those that a person asked for: each has a seed of its own. */
  private asked = 0;

  constructor(
    private readonly given: TrainerOptions,
    private readonly options: TrainingOptions,
  ) {}

  /**
   * One after `step`, which goes on from `prompt` where a person asked for it. A prompt that the model cannot go on from, or
   * too little memory for it, is no reason to end the run.
   */
  async write(step: number, prompt?: string): Promise<SampleEvent | WarningEvent> {
    const number = prompt === undefined ? 0 : ++this.asked;
    try {
      return await this.sample(step, prompt ?? this.options.samplePrompt ?? '', number);
    } catch (error) {
      if (!(error instanceof KotodamaError)) throw error;
      return { type: 'warning', step, code: error.code, message: error.message };
    }
  }

  private async sample(step: number, prompt: string, number: number): Promise<SampleEvent> {
    const { model, tokenizer, seed = 0 } = this.given;
    const start = performance.now();
    let text = '';
    const pieces = model.generate(prompt, {
      tokenizer,
      maxNewTokens: this.options.sampleTokens,
      temperature: 0.8,
      topK: 50,
      seed: seed + step + number,
    });
    for await (const piece of pieces) text += piece;
    return { type: 'sample', step, prompt, text, seconds: secondsSince(start) };
  }
}
