// What goes wrong on a CUDA device, through the package's own interface: a clear error, memory given back, a process
// that lives on.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { isReal } from './build.js';
import { noKernels, useDevice } from './device.js';
import { type Outcome, runScript } from './script.js';
import { readTrace } from './trace.js';

const device = useDevice();

if (device === undefined) {
  t.plan(0, noKernels);
} else {
  const base = { ...device, KOTODAMA_SIM_CHECKS: 'none' };
  const run = (source: string, env: Record<string, string> = {}) => runScript(source, { ...base, ...env });
  /** The script must end by itself and print nothing but what it says. */
  const ended = async (source: string, env?: Record<string, string>): Promise<Outcome['said']> => {
    const { code, signal, stderr, said } = await run(source, env);
    if (code !== 0 || stderr !== '') throw new Error(`it ended with ${code ?? signal}, having printed:\n${stderr}`);
    return said;
  };

  /** What a model took is free again. Others may take a little of a real device meanwhile, less than a model does. */
  const isFreeAgain = (t: Test, before: Record<string, number>, after: Record<string, number>, what: string) => {
    const missing = before['cuda:0']! - after['cuda:0']!;
    if (isReal) t.ok(missing < 64 << 20, `${what}: ${missing} bytes are missing`);
    else t.equal(missing, 0, what);
  };

  t.test('two models on one device, and one in each of three threads, train as one alone does', async (t) => {
    const [alone, first, second, ...threads] = await ended(`
      const one = await create();
      say(await train(one));
      await one.dispose();
      const [a, b] = [await create(), await create()];
      const losses = [[], []];
      for (let step = 0; step < 3; step++) {
        const both = await Promise.all([a, b].map((model) => train(model, 1)));
        both.forEach(([loss], i) => losses[i].push(loss));
      }
      losses.forEach(say);
      const { Worker } = await import('node:worker_threads');
      const source = ${JSON.stringify(`
        const { parentPort, workerData } = await import('node:worker_threads');
        const { GPT2 } = await import(workerData.url);
        const model = await GPT2.create(workerData.config, { device: 'cuda', seed: 3 });
        const losses = [];
        for (let step = 0; step < 3; step++) {
          losses.push((await model.forwardBackward(workerData.batch)).loss);
          await model.step(workerData.rates);
        }
        parentPort.postMessage(losses);
      `)};
      const { once } = await import('node:events');
      const url = ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
      const workerData = { url, config, batch, rates };
      const run = async () => {
        const code = 'data:text/javascript,' + encodeURIComponent(source);
        const [losses] = await once(new Worker(new URL(code), { workerData, execArgv: [] }), 'message');
        return losses;
      };
      (await Promise.all([run(), run(), run()])).forEach(say);
    `);
    t.equal(alone.length, 3);
    t.ok(alone[2] < alone[0], `it learns: ${alone}`);
    for (const losses of [first, second, ...threads]) t.same(losses, alone);
    t.equal(threads.length, 3);
  });

  t.test('a thread that ends in the middle of a step takes nothing along', async (t) => {
    const [before, , losses, after] = await ended(`
      say(await free());
      const { Worker } = await import('node:worker_threads');
      const { once } = await import('node:events');
      const source = ${JSON.stringify(`
        const { parentPort, workerData } = await import('node:worker_threads');
        const { GPT2 } = await import(workerData.url);
        const model = await GPT2.create(workerData.config, { device: 'cuda', seed: 3 });
        for (;;) {
          await model.forwardBackward(workerData.batch);
          parentPort.postMessage('a step');
        }
      `)};
      const url = ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
      const code = 'data:text/javascript,' + encodeURIComponent(source);
      const worker = new Worker(new URL(code), { workerData: { url, config, batch }, execArgv: [] });
      await once(worker, 'message');
      await worker.terminate();
      const model = await create();
      say('ended');
      say(await train(model));
      await model.dispose();
      say(await free());
    `);
    t.equal(losses.length, 3);
    isFreeAgain(t, before, after, 'its memory is free again');
  });

  t.test('dispose during a step: the step ends, then the memory is free, and later calls say why not', async (t) => {
    const [before, step, later, again, after] = await ended(`
      say(await free());
      const model = await create();
      const step = attempt(() => model.forwardBackward(batch));
      const disposed = model.dispose();
      const later = attempt(() => model.forwardBackward(batch));
      await disposed;
      say(await step);
      say(await later);
      say(await attempt(() => model.dispose()) ?? null);
      say(await free());
    `);
    t.ok(Number.isFinite(step.loss), JSON.stringify(step));
    t.match(later, { code: 'ERR_DISPOSED' });
    t.equal(again, null, 'a second time is no error');
    isFreeAgain(t, before, after, 'the memory is free again');
  });

  t.test(
    'the process ends without dispose: idle, after a step that nobody waits for, in the middle of one',
    async (t) => {
      t.same(await ended(`const model = await create(); say(await train(model, 1).then((l) => l.length));`), [1]);
      t.same(await ended(`const model = await create(); void model.forwardBackward(batch); say('on its way');`), [
        'on its way',
      ]);
      // The simulator tells when the kernels have begun; of a real device nobody knows, only that the step has not ended.
      const trace = isReal ? '' : join(t.testdir(), 'calls.txt');
      const { code, signal, stderr, said } = await run(
        `
      const { readFileSync, writeFileSync, writeSync } = await import('node:fs');
      const trace = process.env.KOTODAMA_SIM_TRACE;
      const model = await create();
      if (trace) writeFileSync(trace, '');
      const steps = async () => {
        for (;;) await model.forwardBackward(batch);
      };
      void steps();
      const look = () => {
        if (trace && !readFileSync(trace, 'utf8').includes('cuLaunchKernel')) return setImmediate(look);
        const state = attempt(() => model.counters);
        state.then(({ code }) => {
          writeSync(1, JSON.stringify(code) + '\\n');
          process.exit(7);
        });
      };
      setImmediate(look);
      `,
        { KOTODAMA_SIM_TRACE: trace },
      );
      t.same({ code, signal, stderr, said }, { code: 7, signal: null, stderr: '', said: ['ERR_BUSY'] });
    },
  );

  t.test('a process that is started meanwhile has the device for itself', async (t) => {
    const [outcome, losses] = await ended(`
      const model = await create();
      await train(model, 1);
      const { fork } = await import('node:child_process');
      const { once } = await import('node:events');
      const { writeFileSync } = await import('node:fs');
      const file = ${JSON.stringify(join(t.testdir(), 'child.mjs'))};
      writeFileSync(file, ${JSON.stringify(`
        import { GPT2 } from '${new URL('../../dist/index.js', import.meta.url).href}';
        const model = await GPT2.create({ vocabSize: 61, nPositions: 16, nEmbd: 32, nLayer: 1, nHead: 2 }, { device: 'cuda' });
        process.exitCode = model.device.device === 'cuda:0' ? 5 : 6;
        process.disconnect();
      `)});
      const [code] = await once(fork(file, { execArgv: [] }), 'exit');
      say(code);
      say(await train(model, 1));
    `);
    t.equal(outcome, 5);
    t.ok(Number.isFinite(losses[0]));
  });

  t.test('no driver, one that is none, no such device', async (t) => {
    const failure = (env: Record<string, string>, name = 'cuda') =>
      ended(`say(await attempt(() => create({ device: '${name}' })));`, env);
    const [[missing], [none], [index], [word]] = await Promise.all([
      failure({ KOTODAMA_CUDA_DRIVER: '/no/such/driver.so' }),
      failure({ KOTODAMA_CUDA_DRIVER: 'libm.so.6' }),
      failure({}, 'cuda:4000'),
      failure({}, 'cuda:x'),
    ]);
    t.match(missing, { code: 'ERR_DEVICE', message: /\/no\/such\/driver\.so cannot be opened.*must name a driver/s });
    t.match(none, { code: 'ERR_DEVICE', message: /libm\.so\.6 is not a CUDA driver.*install a newer NVIDIA driver/ });
    t.match(index, { code: 'ERR_DEVICE', message: /device cuda:4000.*expected cpu.*cuda:0.*received cuda:4000/ });
    t.match(word, { code: 'ERR_OPTIONS', message: /expected 'auto', 'cpu', 'cuda' or 'cuda:N'/ });
  });

  t.test('a driver that takes its time to start leaves the event loop alone', async (t) => {
    // Whoever opens a pipe waits for the other end: with both in one thread nothing would ever go on.
    const pipe = join(t.testdir(), 'driver.so');
    execFileSync('mkfifo', [pipe]);
    const [devices] = await ended(
      `
      const listed = listDevices();
      const { writeFileSync } = await import('node:fs');
      writeFileSync(process.env.KOTODAMA_CUDA_DRIVER, 'no driver');
      say((await listed).map(({ device }) => device));
      `,
      { KOTODAMA_CUDA_DRIVER: pipe },
    );
    t.same(devices, ['cpu']);
  });

  if (!isReal) {
    t.test('a driver or a GPU that is too old, no GPU, a full one', async (t) => {
      const failure = (env: Record<string, string>) =>
        ended(`say(await attempt(() => create())); say((await create({ device: 'auto' })).device.device);`, env);
      const [version, ptx, capability, nothing, full] = await Promise.all([
        failure({ KOTODAMA_SIM_DRIVER_VERSION: '10020' }),
        failure({ KOTODAMA_SIM_DRIVER_VERSION: '11040', KOTODAMA_SIM_REPORT: '/dev/null' }),
        failure({ KOTODAMA_SIM_CAPABILITY: '7.5' }),
        failure({ KOTODAMA_SIM_DEVICES: '0' }),
        failure({ KOTODAMA_SIM_FAIL_CONTEXT: '2' }),
      ]);
      t.match(version, [{ code: 'ERR_DEVICE', message: /knows CUDA 10\.2, expected 11\.4 or later; install/ }, 'cpu']);
      t.match(ptx, [{ code: 'ERR_DEVICE', message: /driver \(CUDA 11\.4\) takes neither.*install a newer/ }, 'cpu']);
      t.match(capability, [{ code: 'ERR_DEVICE', message: /compute capability 7\.5, the kernels need 8\.0/ }, 'cpu']);
      t.match(nothing, [{ code: 'ERR_DEVICE', message: /no CUDA device/ }, 'cpu']);
      const message =
        /\(CUDA reports CUDA_ERROR_OUT_OF_MEMORY [^\n]*\): expected cpu, received cuda\n {2}hint: end other programs/;
      t.match(full, [{ code: 'ERR_DEVICE', message }, 'cpu']);
    });

    t.test('cuda:1 is another device with memory of its own', async (t) => {
      const [first, second, names, before, held, beyond] = await ended(
        `
        const before = await free();
        const [a, b] = [await create({ device: 'cuda:0' }), await create({ device: 'cuda:1' })];
        say(await train(a));
        say(await train(b));
        say([a.device.device, b.device.device]);
        await a.dispose();
        say(before);
        say(await free());
        say(await attempt(() => create({ device: 'cuda:2' })));
        `,
        { KOTODAMA_SIM_DEVICES: '2' },
      );
      t.same(second, first, 'the same losses');
      t.same(names, ['cuda:0', 'cuda:1']);
      t.equal(held['cuda:0'], before['cuda:0']);
      t.ok(held['cuda:1'] < before['cuda:1']);
      t.match(beyond, { code: 'ERR_DEVICE', message: /expected cpu, cuda:0 or cuda:1, received cuda:2/ });
    });

    t.test('no device is touched but the one that computes', async (t) => {
      const trace = join(t.testdir(), 'calls.txt');
      for (const name of ['cuda:1', 'cuda', 'auto']) {
        writeFileSync(trace, '');
        await ended(`await create({ device: '${name}' });`, { KOTODAMA_SIM_DEVICES: '3', KOTODAMA_SIM_TRACE: trace });
        const taken = readTrace(trace).filter((call) => call.name === 'cuDevicePrimaryCtxRetain');
        t.equal(taken.length, 2, `${name} is looked at, then opened`);
      }
    });

    t.test('what does not fit is refused before it is taken, with the batch that would', async (t) => {
      const [failure, plan, more, held, losses] = await ended(
        `
        const model = await create();
        const before = await free();
        const failure = await attempt(() => model.reserve({ batchSize: 500_000, blockSize: 16 }));
        say(failure);
        const fits = Number(/batch size (\\d+) fits/.exec(failure.message)?.[1]);
        say({ fits, ...model.memoryPlan({ batchSize: fits, blockSize: 16 }) });
        say(model.memoryPlan({ batchSize: fits + 1, blockSize: 16 }));
        say([before, await free()]);
        await model.reserve({ batchSize: fits, blockSize: 16 });
        say(await train(model));
        `,
        { KOTODAMA_SIM_MEMORY: '1G' },
      );
      t.match(failure, {
        code: 'ERR_MEMORY',
        message: /needs [\d.]+ GiB, [\d.]+ [GM]iB are free\n {2}hint: batch size/,
      });
      const needed = ({ gradients, moments, activations }: typeof plan) => gradients + moments + activations;
      t.ok(plan.fits > 0 && needed(plan) <= plan.free, `${needed(plan)} of ${plan.free} bytes`);
      t.ok(needed(more) > more.free, `one more takes ${needed(more)}`);
      isFreeAgain(t, held[0], held[1], 'nothing was taken');
      t.equal(losses.length, 3);
    });

    t.test('each allocation may fail: an error, what was taken comes back, and the next try works', async (t) => {
      let failures = 0;
      for (let n = 1; n < 60; n++) {
        const [before, error, after, losses] = await ended(
          `
          const work = async (model) => {
            for await (const _ of model.generateIds([1, 2], { maxNewTokens: 3 }));
            // As a checkpoint is read; without one the moments are taken by the first batch, see below.
            for (const { name, shape } of model.tensors) {
              const zeros = new Float32Array(shape.reduce((a, b) => a * b));
              await model.writeOptimizerState(name, { expAvg: zeros, expAvgSq: zeros });
            }
            const losses = await train(model, 1);
            await model.evaluate(batch);
            return losses;
          };
          say(await free());
          let model;
          const failure = await attempt(async () => {
            model = await create({ precision: 'bf16' });
            return work(model);
          });
          say(failure);
          await model?.dispose();
          say(await free());
          if (failure.code === undefined) process.exit();
          say(await work(await create({ precision: 'bf16' })));
          `,
          { KOTODAMA_SIM_FAIL_ALLOC: String(n) },
        );
        isFreeAgain(t, before, after, `allocation ${n}: the memory is free again`);
        if (losses === undefined) break;
        t.ok(Number.isFinite(losses[0]), `allocation ${n}: the process goes on`);
        failures++;
        t.match(error, { code: 'ERR_MEMORY', message: /needs \d+ bytes, \d+ of \d+ are free/ });
      }
      // Workspace, staging, state, weights, their bf16 copy; the text's cache; gradients, two moments. Activations are
      // asked for again, in less memory.
      t.equal(failures, 9);
    });

    t.test('memory of the host that cannot be pinned is not called memory of the device', async (t) => {
      const [before, failure, after, losses] = await ended(
        `
        say(await free());
        say(await attempt(() => create()));
        say(await free());
        say(await train(await create(), 1));
        `,
        { KOTODAMA_SIM_FAIL_HOST_ALLOC: '1' },
      );
      t.match(failure, {
        code: 'ERR_MEMORY',
        message: /this computer, not the GPU, is out of memory: \d+ bytes .* hint: end other programs/s,
      });
      isFreeAgain(t, before, after, 'what was taken before is given back');
      t.ok(Number.isFinite(losses[0]), 'the next try works');
    });

    t.test('no memory for a graph: the same steps without it', async (t) => {
      const source =
        'const model = await create(); say(await train(model, 4)); say((await model.evaluate(batch)).loss);';
      const whole = await ended(source);
      for (const n of ['1', '2']) {
        t.same(await ended(source, { KOTODAMA_SIM_FAIL_GRAPH: n }), whole, `graph ${n}`);
      }
    });

    t.test('a width that is no multiple of 4 is refused before anything is taken', async (t) => {
      const [wide, odd] = await ended(
        `
        const failure = (nEmbd) => attempt(() => GPT2.create({ ...config, nEmbd, nHead: 1 }, { device: 'cuda' }));
        for (const width of [16384, 30]) say(await failure(width));
        `,
        { KOTODAMA_SIM_MEMORY: '1G' },
      );
      t.match(wide, { code: 'ERR_MEMORY' }, 'only its weights are too many');
      const message = 'nEmbd: expected a multiple of 4 on a CUDA device, received 30\n  hint: choose another width';
      t.match(odd, { code: 'ERR_OPTIONS', message });
    });

    t.test('an allocation that fails under a model leaves it as it was', async (t) => {
      const source = `
        const model = await attempt(() => create());
        if (model.code === undefined) {
          const before = (await free())['cuda:0'];
          const failure = await attempt(() => model.reserve({ batchSize: 2, blockSize: 12 }).then(() => null));
          say({ failure, taken: before - (await free())['cuda:0'], losses: await train(model) });
        }`;
      const outcomes = await Promise.all(
        // The model itself takes four; the last of these comes to no failure any more. In so little memory there is no
        // other way to train.
        [5, 6, 7, 8, 9].map((n) =>
          ended(source, { KOTODAMA_SIM_FAIL_ALLOC: String(n), KOTODAMA_SIM_MEMORY: String(92 << 20) }),
        ),
      );
      const [whole] = outcomes.at(-1)!;
      t.equal(whole.failure, null);
      const failed = outcomes.flat().filter(({ failure }) => failure !== null);
      t.equal(failed.length, 4, 'gradients, two moments, activations');
      for (const { failure, taken, losses } of failed) {
        t.match(failure, { code: 'ERR_MEMORY' });
        t.equal(taken, 0, 'what was taken before the failure is given back');
        t.same(losses, whole.losses, 'and it trains as ever');
      }
    });

    t.test('what backward can compute again is kept only where there is plenty of memory', async (t) => {
      const source = `
        const model = await create();
        const plan = model.memoryPlan({ batchSize: 2, blockSize: 12 });
        say({ ...plan, needed: plan.gradients + plan.moments + plan.activations });
        const before = (await free())['cuda:0'];
        say(await train(model));
        say({ taken: before - (await free())['cuda:0'] });
        say(await attempt(async () => {
          for await (const _ of model.generateIds([1, 2], { maxNewTokens: 3 }));
          return 'a text';
        }));`;
      const capacity = 1 << 30;
      const [plan, losses, { taken }] = await ended(source, { KOTODAMA_SIM_MEMORY: String(capacity) });
      t.ok(plan.needed <= taken, `planned ${plan.needed} bytes, taken ${taken}`);

      // It would fit to the last byte, and then nothing could be written any more.
      const tight = await ended(source, { KOTODAMA_SIM_MEMORY: String(capacity - plan.free + taken) });
      t.ok(tight[0].activations < plan.activations, 'less is kept');
      t.same([tight[1], tight[3]], [losses, 'a text'], 'the same losses, and room for a text');

      // The device has less than it says.
      const short = await ended(source, { KOTODAMA_SIM_MEMORY: String(capacity), KOTODAMA_SIM_FAIL_ALLOC: '8' });
      t.equal(short[0].activations, plan.activations);
      t.ok(short[2].taken < taken, 'less is kept after all');
      t.same(short[1], losses, 'the same losses');
    });

    t.test('a kernel that faults makes the model unusable, not the process', async (t) => {
      const [first, fault, later, read, other, disposed, cpu] = await ended(
        `
        const model = await create();
        say(await train(model, 1));
        say(await attempt(() => train(model, 30)));
        say(await attempt(() => model.forwardBackward(batch)));
        say(await attempt(() => model.readTensor('transformer.wte.weight')));
        say(await attempt(async () => train(await create(), 1)));
        say((await attempt(() => model.dispose())) ?? null);
        say(await train(await create({ device: 'cpu' })));
        `,
        { KOTODAMA_SIM_FAIL_LAUNCH: '150', KOTODAMA_SIM_REPORT: '/dev/null' },
      );
      t.equal(first.length, 1);
      t.match(fault, {
        code: 'ERR_DEVICE',
        message: /CUDA_ERROR_ILLEGAL_ADDRESS.*, noticed at .*\.cc:\d+\n {2}hint: .*start it again/,
      });
      for (const error of [later, read]) {
        t.match(error, {
          code: 'ERR_DEVICE',
          message: /failed before.*CUDA_ERROR_.*hint: .*continue from the last checkpoint/s,
        });
      }
      t.match(other, { code: 'ERR_DEVICE', message: /start it again/ }, 'nor does another model come to be');
      t.equal(disposed, null);
      t.equal(cpu.length, 3);
    });
  }
}
