import type { LiveMessage } from '../page-data.js';
import type { Model } from './model.js';

/** Milliseconds before a lost connection is tried again. */
const RETRY = 2000;

/** Follows the server's events; a lost connection comes back by itself, with everything that was missed. */
export function follow(model: Model, connected: (yes: boolean) => void): void {
  const source = new EventSource('events');
  source.addEventListener('message', ({ data }) => {
    connected(true);
    receive(model, JSON.parse(data) as LiveMessage);
  });
  source.addEventListener('error', () => {
    connected(false);
    // The browser's own way back ends where the server refuses or is gone for a while; one of ours does not.
    source.close();
    setTimeout(() => follow(model, connected), RETRY);
  });
}

function receive(model: Model, message: LiveMessage): void {
  switch (message.type) {
    case 'all':
      // A server that came back may serve other runs than before.
      model.keep(new Set(message.runs.map(({ id }) => id)));
      for (const run of message.runs) model.replace(run);
      break;
    case 'run':
      model.replace(message.run);
      break;
    case 'events': {
      const run = model.runs.find(({ id }) => id === message.id);
      if (run === undefined) break;
      for (const event of message.events) run.record.add(event);
      run.heardAt = Date.now() - 1000 * message.quietSeconds;
      model.changed();
    }
  }
}
