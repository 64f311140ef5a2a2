import { useSyncExternalStore } from 'react';

export interface Route {
  page: string;
  id: string;
  query: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?');
  const [page = '', id = ''] = path.split('/');
  return { page: page || 'now', id: decodeURIComponent(id), query: new URLSearchParams(query) };
}

let known = { hash: '', route: parse('') };

function current(): Route {
  if (known.hash !== location.hash) known = { hash: location.hash, route: parse(location.hash) };
  return known.route;
}

const subscribe = (listener: () => void): (() => void) => {
  addEventListener('hashchange', listener);
  return () => removeEventListener('hashchange', listener);
};

export const useRoute = (): Route => useSyncExternalStore(subscribe, current);

export const go = (hash: string): void => {
  location.hash = hash;
};

export const alertPath = (episode: string): string => `#/alert/${episode}`;

/** Say in the address what is shown, without a step in the history. */
export function note(hash: string): void {
  history.replaceState(history.state, '', hash);
}

export function explorePath(entity?: string, feature?: string, range?: [number, number]): string {
  const query = new URLSearchParams();
  if (entity) query.set('entity', entity);
  if (feature) query.set('feature', feature);
  if (range) {
    query.set('from', range[0].toFixed(0));
    query.set('to', range[1].toFixed(0));
  }
  return '#/explore' + (entity ? '?' + query.toString() : '');
}
