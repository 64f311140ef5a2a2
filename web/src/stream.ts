import { token } from './api';

/** What a connection is told by its end, and tells. */
export interface Ends {
  message: (text: string) => void;
  closed: () => void;
}

/** The server's events as they come, over plain HTTP; returns what ends it. */
export function openStream(asked: { topics: string[]; series: [string, string][]; after: number | null }, ends: Ends): () => void {
  const url = new URL('/api/v1/stream', location.origin);
  url.searchParams.set('topics', asked.topics.join(','));
  if (asked.series.length) url.searchParams.set('series', JSON.stringify(asked.series));
  if (asked.after !== null) url.searchParams.set('after', String(asked.after));
  const over = new AbortController();
  void read(url, over.signal, ends.message)
    .catch(() => {})
    .then(() => {
      if (!over.signal.aborted) ends.closed();
    });
  return () => over.abort();
}

async function read(url: URL, signal: AbortSignal, message: (text: string) => void): Promise<void> {
  const headers: Record<string, string> = token() ? { Authorization: `Bearer ${token()}` } : {};
  const answer = await fetch(url, { headers, signal, cache: 'no-store' });
  if (!answer.ok || !answer.body) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done || signal.aborted) return;
    const events = (left + value).split('\n\n');
    left = events.pop()!;
    for (const event of events)
      for (const line of event.split('\n')) if (line.startsWith('data: ')) message(line.slice(6));
  }
}
