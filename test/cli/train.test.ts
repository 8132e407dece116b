import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { StepEvent } from '../../dist/train/events.js';
import { kotodama, parseEvents, readEvents, TOKENIZER, tinyTraining, workplace } from './program.js';

t.test('train, generate, evaluate, and train on', async (t) => {
  const cwd = workplace(t);
  const first = await kotodama(
    tinyTraining('runs/a', { 'max-steps': 8, valid: 'valid.txt', 'eval-every': 4, 'sample-every': 4, 'save-every': 4 }),
    { cwd },
  );
  t.equal(first.code, 0, first.stderr);
  t.equal(first.stderr, '', 'with --json all is on stdout');
  const events = parseEvents(first.stdout);
  t.same(readEvents(join(cwd, 'runs/a')), events, 'metrics.jsonl holds the same');
  const losses = events.filter((event): event is StepEvent => event.type === 'step').map(({ loss }) => loss);
  t.equal(losses.length, 8);
  t.ok(losses[7] < losses[0]);
  t.match(events.at(-1), { type: 'end', step: 8, reason: 'completed' });
  t.same(readdirSync(join(cwd, 'runs/a')).sort(), [
    ...['checkpoints', 'config.json', 'metrics.jsonl', 'model.safetensors', 'report.html', 'run.json'],
    ...['tokenizer.json', 'tokenizer_config.json'],
  ]);
  t.same(readdirSync(join(cwd, 'runs/a/checkpoints')), ['best', 'step-00000004', 'step-00000008']);
  t.match(JSON.parse(readFileSync(join(cwd, 'runs/a/config.json'), 'utf8')), {
    model_type: 'gpt2',
    n_embd: 16,
    n_layer: 1,
  });

  const prompt = 'Everyone has';
  const generate = ['generate', '--model', 'runs/a', '--prompt', prompt, '--max-new-tokens', '8', '--device', 'cpu'];
  const [text, again, json] = await Promise.all([
    kotodama([...generate, '--seed', '3'], { cwd }),
    kotodama([...generate, '--seed', '3'], { cwd }),
    kotodama([...generate, '--num-samples', '2', '--json', '--seed', '3'], { cwd }),
  ]);
  t.equal(text.code, 0, text.stderr);
  t.ok(text.stdout.startsWith(prompt) && text.stdout.length > prompt.length);
  t.equal(again.stdout, text.stdout, 'equal seeds write equal texts');
  const samples = json.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.equal(samples.length, 2);
  t.equal(`${prompt}${samples[0].text}\n`, text.stdout);

  const evaluate = ['evaluate', '--model', 'runs/a', '--data', 'valid.txt', '--device', 'cpu'];
  const measured = await kotodama([...evaluate, '--json'], { cwd });
  t.equal(measured.code, 0, measured.stderr);
  const result = JSON.parse(measured.stdout);
  const lines = readFileSync(join(cwd, 'valid.txt'), 'utf8').split('\n');
  const bytes = lines.reduce((sum, line) => sum + Buffer.byteLength(line), 0);
  const evals = events.filter(({ type }) => type === 'eval');
  t.match(result, { loss: (evals.at(-1) as { loss: number }).loss, bytes });
  t.ok(Math.abs(result.perplexity - Math.exp(result.loss)) < 1e-9);
  t.ok(Math.abs(result.bitsPerByte - (result.loss * result.tokens) / Math.LN2 / bytes) < 1e-12);

  const second = await kotodama(['train', '--resume', '--out', 'runs/a', '--max-steps', '10'], { cwd });
  t.equal(second.code, 0, second.stderr);
  t.match(second.stderr, /continued from runs\/a\/checkpoints\/step-00000008/);
  t.match(second.stderr, /done at step 10 /);
  t.match(second.stderr, 'next: kotodama generate --model runs/a');
  t.same(
    readEvents(join(cwd, 'runs/a')).flatMap((event) => (event.type === 'step' ? event.step : [])),
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  );
});

t.test('fine-tuning begins with the weights, the tokenizer and the context of another model', async (t) => {
  const cwd = workplace(t);
  await kotodama(tinyTraining('runs/a', { 'max-steps': 12 }), { cwd });
  rmSync(join(cwd, 'runs/a/checkpoints'), { recursive: true });
  const flags = ['--init-from', 'runs/a', '--train', 'train.txt', '--max-steps', '1', '--device', 'cpu'];
  const tuned = await kotodama(['train', '--json', ...flags, '--out', 'runs/b', '--batch-size', '2'], { cwd });
  t.equal(tuned.code, 0, tuned.stderr);
  const [start, step] = parseEvents(tuned.stdout);
  const before = readEvents(join(cwd, 'runs/a')).filter(({ type }) => type === 'step') as StepEvent[];
  t.match(start, { blockSize: 16, resumedFrom: null });
  t.ok((step as StepEvent).loss < before[0].loss - 0.05, 'it begins where the other one ended');
  const both = await kotodama(['train', ...flags, '--out', 'runs/c', '--n-layer', '2'], { cwd });
  t.equal(both.code, 2);
  t.match(both.stderr, /--n-layer: expected nothing, since --init-from decides it, received 2/);
});

t.test('options from a file; flags win', async (t) => {
  const cwd = workplace(t);
  const file = {
    ...{ train: 'train.txt', tokenizer: TOKENIZER, out: 'runs/a', nLayer: 1, nHead: 2, nEmbd: 16, blockSize: 16 },
    ...{ maxSteps: 3, device: 'cpu', schedule: 'constant' },
  };
  writeFileSync(join(cwd, 'run.json'), JSON.stringify(file));
  const run = await kotodama(['train', '--config', 'run.json', '--max-steps', '2', '--json'], { cwd });
  t.equal(run.code, 0, run.stderr);
  const [start] = parseEvents(run.stdout);
  t.match(start, {
    totalSteps: 2,
    configuration: { training: { schedule: 'constant', maxSteps: 2 }, model: { nEmbd: 16 } },
  });
});
