import { writeTextFile } from '../files.js';
import type { GPT2Config } from '../model/config.js';
import type { Explanation } from '../model/explain.js';
import { explanationPage } from '../report/explanation.js';
import { perplexity } from '../report/format.js';
import { OptionReader } from '../validate.js';
import type { Command } from './command.js';
import { type LoadArguments, loadModel } from './load.js';
import { EXPLAIN_OPTIONS, flagOf, parseFlags, readOptions, requireOptions } from './options.js';
import { checkReplaces } from './overwrite.js';

interface ExplainArguments extends LoadArguments {
  text: string;
  out: string;
  topK: number;
  layer?: number;
  head?: number;
  json: boolean;
}

/** Digits of a weight after the point: as many as float32 holds of the weights that matter. */
const WEIGHT_DIGITS = 6;

export const explain: Command = {
  summary: 'shows how well a model foresees a text, and what its heads look at',
  usage: 'explain --model DIR --text TEXT [options]',
  options: EXPLAIN_OPTIONS,
  examples: [
    'kotodama explain --model runs/a --text "Once upon a time"    # writes explain.html',
    'kotodama explain --model openai-community/gpt2 --text "$(cat letter.txt)" --layer 5 --out letter.html',
  ],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, EXPLAIN_OPTIONS), flagOf);
    const options = readOptions(reader, EXPLAIN_OPTIONS, 'explain') as unknown as ExplainArguments;
    requireOptions(reader, EXPLAIN_OPTIONS, ['model', 'text']);
    reader.finish('The options of kotodama explain are not valid');

    const { text, out, topK, layer, head, json } = options;
    if (!json) await checkReplaces(out, 'page');
    const { model, tokenizer } = await loadModel(options);
    try {
      checkPlace(options, model.config);
      const explanation = await model.explain(text, { tokenizer, topK, layer, head });
      if (json) {
        process.stdout.write(`${JSON.stringify({ model: options.model, text, ...plain(explanation) })}\n`);
        return 0;
      }
      await writeTextFile(out, explanationPage(explanation, { model: options.model }));
      process.stdout.write(`${summary(explanation)}\nwritten to ${out}: open it in a browser\n`);
      return 0;
    } finally {
      await model.dispose();
    }
  },
};

/** @throws KotodamaError `ERR_OPTIONS` when the model has no such layer or head */
function checkPlace(options: ExplainArguments, { nLayer, nHead }: Readonly<GPT2Config>): void {
  const reader = new OptionReader(options, flagOf);
  reader.integer('layer', { min: 0, max: nLayer - 1 }, undefined);
  reader.integer('head', { min: 0, max: nHead - 1 }, undefined);
  reader.finish('The model cannot be explained so');
}

/** Attention as rows: row i says how much token i looks at the tokens 0 to i. */
function plain({ attention, ...rest }: Explanation): object {
  const rows = (weights: Float32Array) =>
    rest.tokens.map((_, row) =>
      Array.from(weights.subarray((row * (row + 1)) / 2, ((row + 1) * (row + 2)) / 2), (weight) =>
        Number(weight.toFixed(WEIGHT_DIGITS)),
      ),
    );
  return { ...rest, attention: attention.map(({ layer, head, weights }) => ({ layer, head, weights: rows(weights) })) };
}

function summary({ tokens, loss }: Explanation): string {
  if (loss === null) return '1 token';
  return `${tokens.length} tokens, mean loss ${loss.toFixed(4)} nats, perplexity ${perplexity(loss)}`;
}
