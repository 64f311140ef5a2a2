import { useSyncExternalStore } from 'react';

import { forgetColours } from './canvas';

export type Theme = 'light' | 'dark';
export type Choice = Theme | 'system';

const KEY = 'foreshock.theme';
const heard = new Set<() => void>();

export function choice(): Choice {
  try {
    return (localStorage.getItem(KEY) as Choice | null) ?? 'system';
  } catch {
    return 'system';
  }
}

export const theme = (): Theme => (document.documentElement.dataset['theme'] === 'dark' ? 'dark' : 'light');

export function choose(next: Choice): void {
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // Then it lasts as long as the page.
  }
  const system = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  document.documentElement.dataset['theme'] = next === 'system' ? system : next;
  forgetColours();
  for (const listener of heard) listener();
}

/** Follow the system while nothing else was chosen. */
export function followSystem(): void {
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => choice() === 'system' && choose('system'));
}

const subscribe = (listener: () => void): (() => void) => {
  heard.add(listener);
  return () => heard.delete(listener);
};

export const useTheme = (): Theme => useSyncExternalStore(subscribe, theme);
