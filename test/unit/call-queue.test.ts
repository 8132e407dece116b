import { getEventListeners } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { CallQueue } from '../../dist/model/call-queue.js';

/** A call that ends when it is told to; `log` hears of its beginning and its end. */
function call(log: string[], name: string) {
  let end = () => {};
  let fail = (_: Error) => {};
  const ended = new Promise<string>((resolve, reject) => {
    end = () => resolve(name);
    fail = reject;
  });
  const work = () => {
    log.push(`${name} begins`);
    return ended.finally(() => log.push(`${name} ends`));
  };
  return { work, end, fail };
}

t.test('calls take turns in their order, the first one in the same tick', async (t) => {
  const [queue, log]: [CallQueue, string[]] = [new CallQueue(), []];
  t.equal(queue.idle, true);
  const calls = ['a', 'b', 'c'].map((name) => call(log, name));
  const running = calls.map(({ work }) => queue.run(work));
  t.same(log, ['a begins']);
  t.equal(queue.idle, false);
  for (const { end } of calls.reverse()) end();
  t.same(await Promise.all(running), ['a', 'b', 'c']);
  t.same(log, ['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
  t.equal(queue.idle, true);
});

t.test('a call that fails lets the next one in', async (t) => {
  const [queue, log]: [CallQueue, string[]] = [new CallQueue(), []];
  const first = call(log, 'a');
  const failing = queue.run(first.work);
  const throwing = queue.run(() => {
    throw new Error('at once');
  });
  const last = queue.run(async () => 'well');
  first.fail(new Error('later'));
  await t.rejects(failing, { message: 'later' });
  await t.rejects(throwing, { message: 'at once' });
  t.equal(await last, 'well');
});

t.test('a second call that changes the model is refused, whether the first runs or waits', async (t) => {
  const [queue, log]: [CallQueue, string[]] = [new CallQueue(), []];
  const [reading, changing] = [call(log, 'reading'), call(log, 'changing')];
  const busy = { code: 'ERR_BUSY', message: /await each call that trains or writes/ };
  const change = () => queue.run(async () => 'changed', { changes: true });
  const read = queue.run(reading.work);
  const changed = queue.run(changing.work, { changes: true });
  await t.rejects(change(), busy, 'one waits');
  reading.end();
  await read;
  await setImmediate();
  t.same(log.at(-1), 'changing begins');
  await t.rejects(change(), busy, 'it runs');
  const after = queue.run(async () => log.join());
  changing.end();
  await changed;
  t.match(await after, /changing ends$/, 'who only reads waits for it');
  t.equal(await change(), 'changed');
});

t.test('a signal ends the wait alone', async (t) => {
  const [queue, log]: [CallQueue, string[]] = [new CallQueue(), []];
  const warnings: unknown[] = [];
  const hear = (warning: unknown) => warnings.push(warning);
  process.on('warning', hear);
  t.teardown(() => process.off('warning', hear));
  const abort = new AbortController();
  const { signal } = abort;
  const first = call(log, 'a');
  const running = queue.run(first.work, { signal });
  const waiting = Array.from({ length: 30 }, () => queue.run(async () => log.push('never'), { signal }));
  const last = queue.run(async () => 'last');
  abort.abort(new Error('enough'));
  for (const wait of waiting) await t.rejects(wait, { code: 'ERR_ABORTED', cause: { message: 'enough' } });
  await t.rejects(queue.run(first.work, { signal }), { code: 'ERR_ABORTED' }, 'one that has aborted before');
  t.same(log, ['a begins'], 'what runs goes on');
  first.end();
  t.equal(await running, 'a');
  t.equal(await last, 'last');
  t.same(getEventListeners(signal, 'abort'), []);
  await setImmediate();
  t.same(warnings, []);
});

t.test('what takes no time is done between two calls', async (t) => {
  const [queue, log]: [CallQueue, string[]] = [new CallQueue(), []];
  queue.soon(() => log.push('idle'));
  const [first, second] = [call(log, 'a'), call(log, 'b')];
  const running = [queue.run(first.work), queue.run(second.work)];
  queue.soon(() => log.push('between'));
  t.same(log, ['idle', 'a begins']);
  first.end();
  second.end();
  await Promise.all(running);
  t.same(log, ['idle', 'a begins', 'a ends', 'between', 'b begins', 'b ends']);
  const changing = queue.run(async () => {}, { changes: true });
  t.throws(() => queue.soon(() => {}), { code: 'ERR_BUSY' });
  await changing;
});

t.test('closed: the running call ends, those that wait do not begin', async (t) => {
  const [queue, log]: [CallQueue, string[]] = [new CallQueue(), []];
  const disposed = { code: 'ERR_DISPOSED' };
  const first = call(log, 'a');
  const running = queue.run(first.work);
  const waiting = [1, 2].map(() => queue.run(async () => log.push('never')));
  queue.soon(() => log.push('never'));
  const closing = [1, 2].map((time) => queue.close(async () => void log.push(`closed ${time}`)));
  for (const wait of waiting) await t.rejects(wait, disposed);
  await t.rejects(
    queue.run(async () => log.push('never')),
    disposed,
  );
  t.throws(() => queue.soon(() => {}), disposed);
  t.throws(() => queue.requireOpen(), disposed);
  first.end();
  t.equal(await running, 'a');
  await Promise.all(closing);
  t.same(log, ['a begins', 'a ends', 'closed 1', 'closed 2']);
});
