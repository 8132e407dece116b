// `kotodama` from end to end on the CUDA device: train, kill, resume, generate, evaluate, and a checkpoint that moves
// between devices.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { EvalEvent, StepEvent, TrainEvent } from '../../dist/train/events.js';
import { essence, kotodama, parseEvents, readEvents, tinyTraining, workplace } from '../cli/program.js';
import { isReal } from './build.js';
import { noKernels, useDevice } from './device.js';

const MAX_STEPS = 14;

/** Shuffled, accumulating, with dropout: whatever a checkpoint may forget shows. */
const options = {
  ...{ device: 'cuda', 'n-embd': 32, 'max-steps': MAX_STEPS, 'save-every': 3, 'grad-accum': 2, dropout: 0.1, seed: 5 },
  ...{
    schedule: 'constant',
    'warmup-steps': 0,
    'shuffle-buffer': 10,
    valid: 'valid.txt',
    'eval-every': 7,
    'sample-every': 7,
    'sample-tokens': 6,
  },
};

const stepsOf = (events: TrainEvent[]) => events.filter((event): event is StepEvent => event.type === 'step');
const evalsOf = (events: TrainEvent[]) => events.filter((event): event is EvalEvent => event.type === 'eval');

/** The largest difference of two lists of losses, as a part of them. */
function difference(a: readonly { loss: number }[], b: readonly { loss: number }[]): number {
  return Math.max(...a.map(({ loss }, index) => Math.abs(loss / b[index].loss - 1)));
}

const device = useDevice();

if (device === undefined) {
  t.plan(0, noKernels);
} else {
  // The kernels are looked at for races and the like, which takes half of the time, in ops_test and model_test.
  const env = { ...device, KOTODAMA_SIM_CHECKS: 'none' };

  for (const precision of ['fp32', 'bf16']) {
    t.test(`${precision}: train, kill, resume, generate, evaluate, move to the CPU and back`, async (t) => {
      const cwd = workplace(t);
      const run = async (words: readonly string[]) => {
        const outcome = await kotodama(words, { cwd, env });
        t.equal(outcome.code, 0, outcome.stderr);
        return outcome.stdout;
      };
      const events = parseEvents(await run(tinyTraining('runs/whole', { ...options, precision })));
      t.match(events[0], { type: 'start', device: { device: 'cuda:0' }, precision });
      const losses = stepsOf(events);
      t.equal(losses.length, MAX_STEPS);
      t.ok(losses.at(-1)!.loss < losses[0]!.loss - 0.2, `it learns: ${losses[0]!.loss} to ${losses.at(-1)!.loss}`);

      // From inside, somewhere in the next step: from outside it may come too late.
      writeFileSync(
        join(cwd, 'kill.mjs'),
        `export default ({ type, step }) => {
          if (type === 'step' && step === 8) setTimeout(() => process.kill(process.pid, 'SIGKILL'), 1);
        };`,
      );
      const killing = [...tinyTraining('runs/killed', { ...options, precision }), '--on-event', 'kill.mjs'];
      const killed = await kotodama(killing, { cwd, env });
      t.equal(killed.signal, 'SIGKILL');
      const resumed = parseEvents(await run(['train', '--json', '--resume', '--out', 'runs/killed']));
      t.match(resumed[0], { resumedFrom: /step-0000000[3679]/, device: { device: 'cuda:0' } });
      const [expected, found] = ['whole', 'killed'].map((name) => essence(readEvents(join(cwd, 'runs', name))));
      t.same(found, expected, 'the same events, bit for bit');
      for (const file of ['model.safetensors', `checkpoints/step-000000${MAX_STEPS}/optimizer.safetensors`]) {
        const [a, b] = ['whole', 'killed'].map((name) => readFileSync(join(cwd, 'runs', name, file)));
        t.ok(a.equals(b), file);
      }

      const words = [
        'generate',
        '--model',
        'runs/whole',
        '--prompt',
        'Everyone',
        '--max-new-tokens',
        '6',
        '--seed',
        '3',
      ];
      const texts = await Promise.all(['cuda', 'cuda', 'cpu'].map((device) => run([...words, '--device', device])));
      t.match(texts[0], /^Everyone./);
      t.equal(texts[1], texts[0], 'equal seeds write equal texts');
      t.equal(texts[2], texts[0], 'and so does the CPU, from the same weights');

      const measure = ['evaluate', '--json', '--model', 'runs/whole', '--data', 'valid.txt', '--device'];
      const measured = await Promise.all(
        ['cuda', 'cpu'].map(async (device) => JSON.parse(await run([...measure, device]))),
      );
      const last = evalsOf(events).at(-1) as EvalEvent;
      // `evaluate` computes in fp32.
      t.ok(difference([last], [measured[0]]) <= (precision === 'fp32' ? 0 : 2e-3), 'the loss of the last evaluation');
      t.ok(difference([measured[1]], [measured[0]]) < 1e-5, 'the CPU measures the same');

      // On the CPU, and then on the CUDA device again: other roundings, the same training.
      cpSync(join(cwd, 'runs/whole'), join(cwd, 'runs/moved'), { recursive: true });
      const resume = async (name: string, steps: number, device: string) => {
        const words = ['--out', `runs/${name}`, '--max-steps', `${MAX_STEPS + steps}`, '--device', device];
        const [start, ...rest] = parseEvents(await run(['train', '--json', '--resume', ...words]));
        t.match(start, {
          step: MAX_STEPS + steps - (name === 'moved' ? 3 : 6),
          device: { device: new RegExp(device) },
        });
        return stepsOf(rest);
      };
      const moved = [...(await resume('moved', 3, 'cpu')), ...(await resume('moved', 6, 'cuda'))];
      const apart = difference(moved, await resume('whole', 6, 'cuda'));
      t.ok(apart < (precision === 'fp32' ? 1e-5 : 2e-3), `the losses differ by ${apart} at most`);
    });
  }

  t.test('--device auto takes the GPU when there is one, and says which device it takes', async (t) => {
    const cwd = workplace(t);
    const start = async (name: string, more: Record<string, string>) => {
      const words = tinyTraining(`runs/${name}`, { device: 'auto', 'max-steps': 1 }).filter(
        (word) => word !== '--json',
      );
      const { code, stderr } = await kotodama(words, { cwd, env: { ...env, ...more } });
      t.equal(code, 0, stderr);
      return stderr;
    };
    t.match(await start('gpu', {}), /^device +cuda:0, .+, compute capability \d+\.\d+$/m);
    t.match(await start('none', { KOTODAMA_CUDA_DRIVER: '/no/such/driver.so' }), /^device +cpu, /m);
    if (!isReal) t.match(await start('no-device', { KOTODAMA_SIM_DEVICES: '0' }), /^device +cpu, /m);
  });
}
