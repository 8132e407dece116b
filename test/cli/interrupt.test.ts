import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { kotodama, parseEvents, tinyTraining, workplace } from './program.js';

for (const [signal, who] of [
  ['SIGINT', 'Ctrl-C'],
  ['SIGTERM', 'SIGTERM, as clusters and systemd send it,'],
] as const) {
  t.test(`${who} in the middle of a run: the step ends, a checkpoint is there, exit code 130`, async (t) => {
    const cwd = workplace(t);
    let sent = false;
    const run = await kotodama(tinyTraining('runs/a', { 'max-steps': 100_000 }), {
      cwd,
      onOutput: (stdout, child) => {
        if (sent || !stdout.includes('"step":3,')) return;
        sent = true;
        child.kill(signal);
      },
    });
    t.equal(run.code, 130, run.stderr);
    t.match(run.stderr, /finishing the step and saving/);
    const end = parseEvents(run.stdout).at(-1);
    t.match(end, { type: 'end', reason: 'aborted' });
    const step = end?.step ?? 0;
    const name = `step-${String(step).padStart(8, '0')}`;
    t.ok(existsSync(join(cwd, 'runs/a/checkpoints', name, 'trainer_state.json')));
    const resume = ['train', '--json', '--resume', '--out', 'runs/a', '--max-steps', String(step + 1)];
    const again = await kotodama(resume, { cwd });
    t.equal(again.code, 0, again.stderr);
    t.match(parseEvents(again.stdout)[0], { type: 'start', step });
  });
}

t.test('SIGTERM while the standard input is silent: what was done is saved', async (t) => {
  const cwd = workplace(t);
  const text = readFileSync(join(cwd, 'train.txt'), 'utf8').repeat(200);
  const sizes = { 'max-steps': 100_000, 'batch-size': 64, 'grad-accum': 8, 'shuffle-buffer': 0 };
  let quiet: NodeJS.Timeout | undefined;
  let sent = false;
  const run = await kotodama(tinyTraining('runs/a', { train: '-', ...sizes }), {
    cwd,
    // It stays open.
    onStart: (child) => child.stdin?.write(text),
    onOutput: (stdout, child) => {
      if (sent || !stdout.includes('"step":3,')) return;
      // Should it be slow, and not silent yet, it has to do the same.
      clearTimeout(quiet);
      quiet = setTimeout(() => {
        // What the last step writes must not lead to a second one, which would end the run.
        sent = child.kill('SIGTERM');
      }, 500);
    },
  });
  clearTimeout(quiet);
  t.equal(run.code, 130, run.stderr);
  const [checkpoint, end] = parseEvents(run.stdout).slice(-2);
  t.match(end, { type: 'end', reason: 'aborted' });
  t.match(checkpoint, { type: 'checkpoint', step: end?.step });
});

t.test('Ctrl-C under npm, which passes it on: two signals of one press save as one does', async (t) => {
  const cwd = workplace(t);
  let sent = false;
  const run = await kotodama(tinyTraining('runs/a', { 'max-steps': 100_000 }), {
    ...{ cwd, env: { npm_command: 'exec' } },
    onOutput: (stdout, child) => {
      if (sent || !stdout.includes('"step":3,')) return;
      sent = true;
      // Of two kinds, since two of one kind that wait for a process are one; at once, however slow this machine is.
      child.kill('SIGINT');
      child.kill('SIGTERM');
    },
  });
  t.equal(run.code, 130, run.stderr);
  t.match(parseEvents(run.stdout).at(-1), { type: 'end', reason: 'aborted' });
});

t.test('whoever reads the output is gone, as tee after Ctrl-C: the run is saved all the same', async (t) => {
  const cwd = workplace(t);
  let step = 0;
  const run = await kotodama(tinyTraining('runs/a', { 'max-steps': 100_000 }), {
    cwd,
    onOutput: (stdout, child) => {
      if (step > 0 || !stdout.includes('"step":3,')) return;
      step = 3;
      child.stdout?.destroy();
      child.stderr?.destroy();
      // The same Ctrl-C reaches the run after it has seen that nobody reads.
      setTimeout(() => child.kill('SIGINT'), 2);
    },
  });
  t.equal(run.code, 130);
  const [saved] = readdirSync(join(cwd, 'runs/a/checkpoints')).filter((name) => name.startsWith('step-'));
  t.ok(Number(saved?.slice(5)) >= step, saved);
  const again = ['train', '--json', '--resume', '--out', 'runs/a', '--max-steps', String(Number(saved?.slice(5)) + 1)];
  t.equal((await kotodama(again, { cwd })).code, 0);
});

t.test('a terminal that is closed, which often sends two signals: the run is saved', async (t) => {
  const cwd = workplace(t);
  let sent = false;
  const run = await kotodama(tinyTraining('runs/a', { 'max-steps': 100_000 }), {
    ...{ cwd, terminal: true },
    onOutput: (stdout) => {
      if (sent || !stdout.includes('"step":3,')) return;
      sent = true;
      const { pid } = JSON.parse(readFileSync(join(cwd, 'runs/a/.run.lock'), 'utf8'));
      process.kill(pid, 'SIGHUP');
      setTimeout(() => process.kill(pid, 'SIGHUP'), 2);
    },
  });
  t.equal(run.code, 130, run.stdout.slice(-1000));
  t.match(readdirSync(join(cwd, 'runs/a/checkpoints')), [/^step-/]);
});

t.test('a terminal that is closed is nothing to a run without one, as nohup begins it', async (t) => {
  const cwd = workplace(t);
  let sent = false;
  const run = await kotodama(tinyTraining('runs/a', { 'max-steps': 20 }), {
    cwd,
    onOutput: (stdout, child) => {
      if (!sent && stdout.includes('"step":3,')) sent = child.kill('SIGHUP');
    },
  });
  t.ok(sent);
  t.equal(run.code, 0, run.stderr);
  t.match(parseEvents(run.stdout).at(-1), { type: 'end', reason: 'completed' });
});

t.test('Ctrl-C twice ends at once', async (t) => {
  const cwd = workplace(t);
  // Each is sent once, and the second one after the first was seen: two that wait for a process are one.
  let [first, second] = [false, false];
  // Big enough that the step after the first Ctrl-C is still running at the second.
  const slow = { 'max-steps': 100, 'n-layer': 2, 'n-embd': 256, 'batch-size': 32, 'grad-accum': 50, epochs: 1000 };
  const run = kotodama(tinyTraining('runs/a', slow), {
    cwd,
    onOutput: (stdout, child) => {
      if (!first && stdout.includes('"start"')) first = child.kill('SIGINT');
    },
    onError: (stderr, child) => {
      if (!second && stderr.includes('finishing the step')) second = child.kill('SIGINT');
    },
  });
  const { code, signal, stdout } = await run;
  t.equal(code, null);
  t.equal(signal, 'SIGINT');
  t.notMatch(stdout, '"end"');
});
