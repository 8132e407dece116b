import type { ControlCommand } from '../../train/control.js';
import { rate } from '../format.js';
import { h, setText } from './dom.js';
import type { Model } from './model.js';

/** Milliseconds in which stopping can be confirmed. */
const CONFIRM = 4000;

/** The buttons that steer the run. */
export function controls(model: Model): HTMLElement {
  const answer = h('p', { role: 'status', class: 'answer' });
  const say = (text: string, wrong: boolean) => {
    setText(answer, text);
    answer.classList.toggle('wrong', wrong);
  };
  const send = async (command: ControlCommand, done: string) => {
    try {
      const response = await fetch('control', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(command),
      });
      say(response.ok ? done : await response.text(), !response.ok);
    } catch {
      say('The run cannot be reached.', true);
    }
  };
  const button = (text: string, click: () => void) => h('button', { type: 'button', click }, text);

  const record = () => model.runs[0]?.record;
  const pause = button('Pause', () =>
    record()?.now.paused
      ? send({ action: 'resume' }, 'Going on.')
      : send({ action: 'pause' }, 'Pausing after this step.'),
  );
  const evaluate = button('Evaluate', () => send({ action: 'evaluate' }, 'Evaluating after this step.'));
  const save = button('Save now', () => send({ action: 'save' }, 'Saving after this step.'));
  let sure: ReturnType<typeof setTimeout> | undefined;
  const stop = button('Stop', () => {
    if (sure === undefined) {
      sure = setTimeout(calm, CONFIRM);
      setText(stop, 'Really stop?');
      return;
    }
    calm();
    send({ action: 'stop' }, 'Saving and stopping after this step.');
  });
  stop.classList.add('danger');
  stop.title = 'finishes the step, saves, and ends the run; --resume continues it';
  const calm = () => {
    clearTimeout(sure);
    sure = undefined;
    setText(stop, 'Stop');
  };

  const learningRate = h('input', { type: 'text', inputmode: 'decimal', size: 8, required: true, autocomplete: 'off' });
  const rateForm = form('Peak learning rate', learningRate, 'Set', () => {
    const value = Number(learningRate.value);
    if (Number.isFinite(value) && value > 0) {
      send({ action: 'learningRate', learningRate: value }, `Peak learning rate ${rate(value)} from the next step on.`);
      learningRate.value = '';
    } else say(`A learning rate is a number above 0, such as 3e-4; this is ${learningRate.value}`, true);
  });
  const prompt = h('input', { type: 'text', size: 24, placeholder: 'begin of text', autocomplete: 'off' });
  const sampleForm = form('Prompt', prompt, 'Sample', () =>
    send({ action: 'sample', prompt: prompt.value }, 'Writing a sample after this step.'),
  );

  const fields = h(
    'fieldset',
    { class: 'controls card' },
    h('legend', { class: 'unseen' }, 'Steer the run'),
    h('div', { class: 'buttons' }, pause, evaluate, save, stop),
    rateForm,
    sampleForm,
    answer,
  );
  model.onChange(() => {
    const now = record()?.now;
    setText(pause, now?.paused ? 'Resume' : 'Pause');
    const { lr } = (now?.start?.configuration.training ?? {}) as Record<string, unknown>;
    const peak = now?.peakLearningRate ?? lr;
    learningRate.placeholder = typeof peak === 'number' ? rate(peak) : '';
    fields.disabled = now === undefined || now.end !== null;
  });
  return fields;
}

function form(name: string, input: HTMLInputElement, action: string, submit: () => void): HTMLElement {
  const label = h('label', {}, `${name} `, input);
  return h(
    'form',
    {
      submit: (event: SubmitEvent) => {
        event.preventDefault();
        submit();
      },
    },
    label,
    h('button', {}, action),
  );
}
