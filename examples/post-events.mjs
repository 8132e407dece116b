// Sends a run's events to a server while they come, as the clients of Weights & Biases and the like do:
//
//   METRICS_URL=https://metrics.example/runs/7 kotodama train ... --on-event examples/post-events.mjs
//
// A request is made every METRICS_EVERY milliseconds (5000), with all events since the one before:
// { "events": [{ "type": "step", ... }, ...] }. METRICS_KEY, when set, is sent as a bearer token. Training waits for none of
// it; a request that fails, or has no answer after 5 seconds, becomes a warning of the run, and its events are sent again with
// the next ones.

const { METRICS_URL: url, METRICS_KEY: key, METRICS_EVERY: every = '5000' } = process.env;
if (!url) throw new Error('set METRICS_URL');

let waiting = [];
let sentAt = 0;
let sending = Promise.resolve();

export default function onEvent(event) {
  waiting.push(event);
  if (event.type !== 'end' && Date.now() - sentAt < Number(every)) return undefined;
  sentAt = Date.now();
  // One request after the other, so that events arrive in their order.
  sending = sending.catch(() => {}).then(send);
  return sending;
}

async function send() {
  const events = waiting;
  waiting = [];
  try {
    const headers = { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) };
    const body = JSON.stringify({ events });
    const response = await fetch(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  } catch (error) {
    waiting = [...events, ...waiting];
    throw error;
  }
}
