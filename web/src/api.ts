import type { Label } from './types';

/** What the server said no to, in its own words. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    detail: string,
  ) {
    super(detail);
  }
}

/** What the server put into the page: the first answers, by what asks for them. Each is used once, and only at the start. */
const FIRST = firstAnswers();
const FIRST_MS = 5000;
setTimeout(() => FIRST.clear(), FIRST_MS);

function firstAnswers(): Map<string, unknown> {
  const text = document.getElementById('first')?.textContent;
  return new Map(text ? Object.entries(JSON.parse(text) as object) : []);
}

export function first<T>(asked: string): T | undefined {
  const found = FIRST.get(asked) as T | undefined;
  FIRST.delete(asked);
  return found;
}

const KEY = 'foreshock.token';

export function token(): string {
  try {
    return sessionStorage.getItem(KEY) ?? '';
  } catch {
    return '';
  }
}

export function setToken(value: string): void {
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // Without storage the token lasts as long as the page: it is asked for again.
  }
}

type Query = Record<string, string | number | undefined>;

async function ask<T>(method: string, path: string, query: Query = {}, body?: unknown): Promise<T> {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value));
  const known = method === 'GET' ? first<T>(url.pathname + url.search) : undefined;
  if (known !== undefined) return known;
  const headers: Record<string, string> = {};
  if (token()) headers['Authorization'] = `Bearer ${token()}`;
  const init: RequestInit = { method, headers };
  if (body !== undefined) {
    headers['Content-Type'] = 'application/json';
    headers['Idempotency-Key'] = newId();
    init.body = JSON.stringify(body);
  }
  const answer = await fetch(url, init);
  if (answer.ok) return (await answer.json()) as T;
  const said = (await answer.json().catch(() => ({}))) as { title?: string; detail?: string };
  throw new ApiError(answer.status, said.title ?? 'Error', said.detail ?? `${method} ${path}: ${answer.status}`);
}

export const get = <T>(path: string, query?: Query): Promise<T> => ask<T>('GET', path, query);
export const post = <T>(path: string, body: unknown): Promise<T> => ask<T>('POST', path, {}, body);
export const remove = <T>(path: string): Promise<T> => ask<T>('DELETE', path);

export const label = (episode: string, value: Label): Promise<unknown> =>
  post(`/api/v1/alerts/${episode}/label`, { label: value });

/** An id that nobody else makes; `crypto.randomUUID` is only there on secure origins. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}
