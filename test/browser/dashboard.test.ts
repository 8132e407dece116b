import { createServer } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { pipeline } from 'node:stream';
import type { Page } from 'playwright-core';
import t from 'tap';
import { LiveRun } from '../../dist/report/dashboard/live-run.js';
import { Dashboard, type DashboardOptions } from '../../dist/report/dashboard/server.js';
import { type ControlCommand, TrainerControl } from '../../dist/train/control.js';
import type { TrainEvent } from '../../dist/train/events.js';
import { endEvent, evalEvent, sampleEvent, startEvent, stepEvent } from '../unit/helpers/events.js';
import { drawn, HOSTILE, hacked, launchFor, open } from './pages.js';

// One of the shell would be the token of every dashboard here.
delete process.env.KOTODAMA_DASHBOARD_TOKEN;

const loss = (step: number) => 3 + 5 * Math.exp(-step / 50);

function steps(run: LiveRun, first: number, last: number): void {
  for (let step = first; step <= last; step++) run.add(stepEvent(step, { loss: loss(step), gradNorm: 1 + 1 / step }));
}

/** The points of the main curves of a chart. */
const curvePoints = (page: Page, title: string) =>
  page
    .locator('figure', { hasText: title })
    .locator('path.main')
    .evaluateAll((paths) => paths.map((path) => (path.getAttribute('d') ?? '').split('L').length));

/** The largest contrast of a part of the page with the first pixel of it, which is ground (WCAG 2.2, contrast ratio). */
async function contrast(page: Page, clip: { x: number; y: number; width: number; height: number }): Promise<number> {
  const png = (await page.screenshot({ clip })).toString('base64');
  return page.evaluate(async (png) => {
    const bytes = Uint8Array.from(atob(png), (character) => character.charCodeAt(0));
    const picture = await createImageBitmap(new Blob([bytes]));
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    const context = canvas.getContext('2d') as OffscreenCanvasRenderingContext2D;
    context.drawImage(picture, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const linear = (value = 0) => (value <= 10 ? value / 3294 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    const luminances = Array.from(
      { length: data.length / 4 },
      (_, pixel) =>
        0.2126 * linear(data[4 * pixel]) + 0.7152 * linear(data[4 * pixel + 1]) + 0.0722 * linear(data[4 * pixel + 2]),
    );
    // Whole rows of the grid are no spike.
    const ground = luminances[0] as number;
    const seen = luminances.filter((_, pixel) => {
      const row = Math.floor(pixel / canvas.width) * canvas.width;
      return luminances[row] === ground;
    });
    return Math.max(...seen.map((one) => (Math.max(one, ground) + 0.05) / (Math.min(one, ground) + 0.05)));
  }, png);
}

async function serve(t: { teardown(work: () => unknown): void }, options: DashboardOptions = {}) {
  const dashboard = await Dashboard.start({ port: 0, ...options });
  t.teardown(() => dashboard.close());
  const run = new LiveRun('runs/a', 'runs/a');
  dashboard.add(run);
  run.add(startEvent());
  return { dashboard, run };
}

t.test('curves grow while the run goes on, and the numbers with them', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const { dashboard, run } = await serve(t);
  steps(run, 1, 20);
  const { page, faults } = await open(browser, dashboard.url);
  await page.locator('path.main').first().waitFor();
  t.same(await curvePoints(page, 'Loss'), [20]);
  t.equal(await page.locator('h1').textContent(), 'runs/a');
  t.equal(await page.locator('.status').textContent(), 'training');
  steps(run, 21, 60);
  run.add(evalEvent(30, 4.5));
  run.add(evalEvent(60, 4.25));
  run.add(sampleEvent(60, 'そこには猫がいた。', '吾輩は'));
  await page.getByText('そこには猫がいた。').waitFor();
  t.same(await curvePoints(page, 'Loss'), [60, 2]);
  t.same(await curvePoints(page, 'Gradient norm'), [60]);
  t.same(await page.locator('dd b').first().textContent(), '60');
  t.match(await page.locator('dl').textContent(), /Validation loss4\.2500/);
  run.add(endEvent(60));
  await page.getByText('completed').waitFor();
  t.same(faults, { errors: [], foreign: [] });
});

t.test('thousands of steps: the page stays small, and a spike stays visible', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const { dashboard, run } = await serve(t);
  steps(run, 1, 14_999);
  run.add(stepEvent(15_000, { loss: 40, gradNorm: 1 }));
  steps(run, 15_001, 30_000);
  const { page } = await open(browser, dashboard.url);
  await page.locator('path.main').first().waitFor();
  for (let first = 30_001; first < 60_000; first += 10_000) {
    steps(run, first, first + 9_999);
    await page.waitForFunction((step) => document.querySelector('dd b')?.textContent === String(step), first + 9_999);
  }
  const [points] = await curvePoints(page, 'Loss');
  t.ok(points >= 800 && points <= 1600, `${points} points`);
  t.ok((await page.locator('figure *').count()) < 1000);
  const chart = page.locator('figure').first();
  const box = (await chart.locator('.plot').boundingBox()) as { x: number; y: number; width: number; height: number };
  // The loss is at most 8 but for the spike: above half of the chart there is nothing else, beside it nothing.
  const left = 54 + (15_000 / 59_999) * (box.width - 68);
  const above = { y: box.y + 0.25 * box.height, width: 12, height: 0.25 * box.height };
  t.ok((await contrast(page, { ...above, x: box.x + left - 6 })) >= 1.5, 'the spike can be seen');
  t.ok((await contrast(page, { ...above, x: box.x + left + 20 })) < 1.5);
  await page.mouse.move(box.x + left, box.y + 20);
  await page.getByText('3 to 40', { exact: false }).waitFor();
});

t.test('every button acts, and says so', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const commands: ControlCommand[] = [];
  const control = new TrainerControl();
  const { dashboard, run } = await serve(t, {
    onCommand: (command) => {
      control.send(command);
      commands.push(command);
      run.add({ type: 'control', step: 5, ...command } as TrainEvent);
    },
  });
  steps(run, 1, 5);
  const { page, faults } = await open(browser, dashboard.url);
  const press = (name: string) => page.getByRole('button', { name, exact: true }).click();
  await press('Pause');
  await page.getByRole('button', { name: 'Resume' }).waitFor();
  t.equal(await page.locator('.status').textContent(), 'paused');
  await press('Evaluate');
  await press('Save now');
  await page.getByLabel('Prompt').fill('吾輩は "猫"');
  await press('Sample');
  await page.getByText('Writing a sample').waitFor();
  await page.getByLabel('Peak learning rate').fill('3e-4');
  await page.getByLabel('Peak learning rate').press('Enter');
  await page.getByText('peak set to 3.00e-4').waitFor();
  await press('Resume');
  await page.getByRole('button', { name: 'Pause' }).waitFor();
  // However slow the machine is, there is time to confirm.
  await page.clock.install();
  await page.clock.pauseAt(Date.now() + 1000);
  await press('Stop');
  t.notOk(
    commands.some(({ action }) => action === 'stop'),
    'not without being sure',
  );
  await press('Really stop?');
  await page.clock.resume();
  await page.getByText('Saving and stopping').waitFor();
  t.same(commands, [
    { action: 'pause' },
    { action: 'evaluate' },
    { action: 'save' },
    { action: 'sample', prompt: '吾輩は "猫"' },
    { action: 'learningRate', learningRate: 3e-4 },
    { action: 'resume' },
    { action: 'stop' },
  ]);
  t.match(await page.locator('.events').textContent(), 'sample: 吾輩は "猫"');
  await page.getByLabel('Peak learning rate').fill('fast');
  await press('Set');
  await page.getByText('A learning rate is a number above 0, such as 3e-4; this is fast').waitFor();
  t.equal(await page.getByLabel('Peak learning rate').inputValue(), 'fast', 'it can be corrected');
  await page.getByLabel('Prompt').fill('long '.repeat(5000));
  await press('Sample');
  await page.getByText(/prompt: expected at most 20000 characters/).waitFor();
  t.equal(commands.length, 7);
  run.add(endEvent(5));
  await page.locator('fieldset:disabled').waitFor();
  // The refusal is in the console too, as every answer that is an error.
  t.same(
    faults.errors.filter((text) => !text.includes('400')),
    [],
  );
});

t.test('what a model, a file name or a warning says stays text', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const { dashboard, run } = await serve(t);
  const hostile = new LiveRun('evil', HOSTILE);
  dashboard.add(hostile);
  hostile.add(startEvent(0, { configuration: { options: { [HOSTILE]: HOSTILE } }, out: HOSTILE }));
  for (const one of [run, hostile]) {
    steps(one, 1, 3);
    one.add(sampleEvent(3, HOSTILE, HOSTILE));
    one.add({ type: 'warning', step: 3, code: 'ERR_IO', message: HOSTILE });
  }
  const { page, faults } = await open(browser, dashboard.url);
  await page.locator('.samples').first().waitFor();
  t.match(await page.locator('.samples p').first().textContent(), HOSTILE);
  t.match(await page.locator('.runs').textContent(), HOSTILE);
  t.match(await page.locator('.events').textContent(), HOSTILE);
  t.match(await page.locator('.groups').textContent(), HOSTILE);
  await page.locator('.plot').first().hover();
  await drawn(page);
  t.match(await page.locator('.tip').first().textContent(), HOSTILE);
  t.equal(await hacked(page), 0);
  await page.evaluate(() => {
    // Even if some text became markup, the policy would let none of it run.
    const script = document.createElement('script');
    script.textContent = 'window.hacked = 1';
    document.body.append(script);
  });
  t.equal(await hacked(page), 0);
  t.equal(faults.errors.length, 1);
  t.match(faults.errors[0], /Content Security Policy/);
});

t.test('a page of another site can neither read nor steer, nor put the page into a frame', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const commands: ControlCommand[] = [];
  const { dashboard } = await serve(t, { onCommand: (command) => commands.push(command) });
  // The same machine under another name is another site to a browser.
  const attacker = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end('<body>'));
  await new Promise<void>((resolve) => attacker.listen(0, '127.0.0.1', resolve));
  t.teardown(() => attacker.close());
  const { page: evil } = await open(browser, `http://localhost:${(attacker.address() as AddressInfo).port}/`);
  const tries = await evil.evaluate(async (url) => {
    const outcome = (promise: Promise<Response>) =>
      promise.then(
        ({ status, type }) => `${type} ${status}`,
        () => 'failed',
      );
    const body = '{"action":"stop"}';
    const results = [
      await outcome(fetch(`${url}events`)),
      await outcome(fetch(`${url}metrics`)),
      await outcome(fetch(`${url}control`, { method: 'POST', body, headers: { 'content-type': 'application/json' } })),
      await outcome(fetch(`${url}control`, { method: 'POST', body, mode: 'no-cors' })),
    ];
    const frame = document.createElement('iframe');
    frame.src = url;
    document.body.append(frame);
    await new Promise((resolve) => frame.addEventListener('load', resolve));
    return results;
  }, dashboard.url);
  t.same(tries, ['failed', 'failed', 'failed', 'failed']);
  t.same(commands, []);
  t.equal(await evil.frames()[1]?.locator('figure').count(), 0);
});

/** An address that stays while dashboards come and go: a port that one of them let go could be another program's. */
async function front(t: { teardown(work: () => unknown): void }) {
  const shown: { url: string; dashboard?: Dashboard | undefined } = { url: '' };
  const server = createTcpServer((socket) => {
    if (shown.dashboard === undefined) return socket.destroy();
    const dashboard = connect(Number(new URL(shown.dashboard.url).port), '127.0.0.1');
    pipeline(socket, dashboard, socket, () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  shown.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/the-same-token/`;
  return shown;
}

t.test('a lost connection comes back by itself, with what was missed', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const shown = await front(t);
  const first = await Dashboard.start({ port: 0, token: 'the-same-token' });
  shown.dashboard = first;
  const run = new LiveRun('a', 'a');
  first.add(run);
  run.add(startEvent());
  steps(run, 1, 5);
  const { page } = await open(browser, shown.url);
  await page.getByText('training', { exact: true }).first().waitFor();
  shown.dashboard = undefined;
  await first.close();
  await page.getByText('connection lost, trying again').waitFor();
  steps(run, 6, 9);
  const second = await Dashboard.start({ port: 0, token: 'the-same-token' });
  t.teardown(() => second.close());
  second.add(run);
  run.add(startEvent());
  steps(run, 1, 12);
  shown.dashboard = second;
  await page.waitForFunction(() => document.querySelector('dd b')?.textContent === '12');
  t.equal(await page.locator('.status').textContent(), 'training');
});

t.test('a dashboard without a run waits for one, and says when its server is gone', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const dashboard = await Dashboard.start({ port: 0 });
  const { page } = await open(browser, dashboard.url);
  await page.getByRole('heading', { name: 'waiting for a run' }).waitFor();
  await dashboard.close();
  await page.locator('.status.lost').waitFor();
  t.equal(await page.locator('.status').textContent(), 'connection lost, trying again');
});

t.test('a run that says nothing more: the page tells for how long', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const { dashboard, run } = await serve(t);
  run.add(stepEvent(1), Date.now() - 125_000);
  const { page } = await open(browser, dashboard.url);
  const status = page.locator('.status');
  await page.getByText('no news for 2m').waitFor();
  run.add(stepEvent(2));
  await page.getByText('training', { exact: true }).waitFor();
  t.equal(await status.textContent(), 'training');
  run.add(stepEvent(3, { stepSeconds: 3600 }), Date.now() - 1_800_000);
  await page.waitForFunction(() => document.querySelector('dd b')?.textContent === '3');
  t.equal(await status.textContent(), 'training', 'its steps take an hour');
  run.add(endEvent(3), Date.now() - 1_800_000);
  await page.getByText('completed').waitFor();
});

t.test('a server that comes back with other runs: those of before are gone', async (t) => {
  const browser = await launchFor(t);
  if (browser === undefined) return;
  const shown = await front(t);
  const serveRuns = async (names: string[]) => {
    const dashboard = await Dashboard.start({ port: 0, token: 'the-same-token' });
    for (const name of names) {
      const run = new LiveRun(name, name);
      dashboard.add(run);
      run.add(startEvent());
      steps(run, 1, 5);
    }
    shown.dashboard = dashboard;
    return dashboard;
  };
  const first = await serveRuns(['a', 'b', 'c']);
  const { page, faults } = await open(browser, shown.url);
  const runs = page.locator('.runs tbody th');
  await runs.nth(2).waitFor();
  shown.dashboard = undefined;
  await first.close();
  const second = await serveRuns(['c', 'd']);
  await page.getByRole('checkbox', { name: 'd', exact: true }).waitFor();
  t.same(await runs.allTextContents(), ['c', 'd']);
  t.equal(await page.locator('h1').textContent(), '2 runs');
  const colours = await page
    .locator('.runs .swatch')
    .evaluateAll((marks) => marks.map((mark) => getComputedStyle(mark).backgroundColor));
  t.equal(new Set(colours).size, 2);
  shown.dashboard = undefined;
  await second.close();
  const third = await serveRuns(['e']);
  t.teardown(() => third.close());
  await page.getByRole('heading', { name: 'e', exact: true }).waitFor();
  t.same(faults, { errors: [], foreign: [] });
});
