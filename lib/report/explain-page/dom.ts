/** Properties of an element: attributes as strings and numbers, switches as booleans, listeners as functions. */
export interface Properties {
  [name: string]: string | number | boolean | ((event: never) => void) | undefined;
}

export type Child = Node | string | undefined;

/** Makes an element. Text becomes text nodes, never markup. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') element.addEventListener(name, value as (event: Event) => void);
    else if (typeof value === 'boolean') element.toggleAttribute(name, value);
    else if (value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}
