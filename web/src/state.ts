import type { Live } from './live';
import { announced, startOf } from './parts';
import type { AlertState } from './types';

/** How the page as a whole stands. */
export type PageState = 'loading' | 'empty' | 'disconnected' | 'stale' | 'learning' | 'firing' | 'small' | 'quiet';

/** Data older than this is told as old (s). */
export const STALE_SECONDS = 60;

export function pageState(live: Live, open: AlertState[] | undefined): PageState {
  if (live.link === 'lost') return 'disconnected';
  const { standing } = live;
  if (!standing || open === undefined) return 'loading';
  if (!standing.entities) return 'empty';
  if ((standing.silent_seconds ?? 0) > STALE_SECONDS) return 'stale';
  const serious = open.filter((one) => one.foreshock.kind !== 'change');
  if (serious.some(announced)) return 'firing';
  const judged = [...live.entities.values()].some((one) => one[1] === 'scored' && one[2] !== null);
  if (!judged && live.entities.size) return 'learning';
  return serious.length ? 'small' : 'quiet';
}

/** The alert that the sentence is about: of those announced, the one that stands out most. */
export function headline(open: AlertState[]): AlertState | undefined {
  const loud = open.filter((one) => announced(one) && one.foreshock.kind !== 'change');
  return [...loud].sort(
    (a, b) => b.foreshock.strength - a.foreshock.strength || startOf(a) - startOf(b),
  )[0];
}

/** Announced first, then the rest; within each the latest first. Slow changes stand last. */
export function inOrder(open: AlertState[]): { loud: AlertState[]; small: AlertState[] } {
  const rank = (one: AlertState): number => -one.foreshock.strength;
  const loud = open.filter((one) => announced(one)).sort((a, b) => rank(a) - rank(b));
  const small = open
    .filter((one) => !announced(one))
    .sort((a, b) => Number(a.foreshock.kind === 'change') - Number(b.foreshock.kind === 'change') || startOf(b) - startOf(a));
  return { loud, small };
}
