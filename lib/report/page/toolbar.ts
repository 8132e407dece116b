import { h } from './dom.js';
import type { Model, XAxis } from './model.js';

const AXES: Record<XAxis, string> = { step: 'steps', tokens: 'tokens', seconds: 'training time' };

/** How the charts are shown: x axis, smoothing, zoom. */
export function toolbar(model: Model): HTMLElement {
  const axis = h(
    'select',
    {
      change: () => {
        model.x = axis.value as XAxis;
        model.cursor = null;
        model.setZoom(null);
      },
    },
    ...Object.entries(AXES).map(([value, name]) => h('option', { value }, name)),
  );
  const shown = h('output', {}, model.smoothing.toFixed(2));
  const smoothing = h('input', {
    type: 'range',
    min: 0,
    max: 0.99,
    step: 0.01,
    value: model.smoothing,
    input: () => {
      model.smoothing = Number(smoothing.value);
      shown.value = model.smoothing.toFixed(2);
      model.changed();
    },
  });
  const all = h('button', { type: 'button', click: () => model.setZoom(null) }, 'Show all');
  model.onChange(() => {
    all.disabled = model.zoom === null;
  });
  return h(
    'div',
    { class: 'toolbar', role: 'group', 'aria-label': 'How the curves are shown' },
    h('label', {}, 'along ', axis),
    h('label', {}, 'smoothing ', smoothing, shown),
    all,
    h('span', { class: 'hint' }, 'drag across a chart to zoom'),
  );
}
