import type { JSX, ReactNode } from 'react';

/** Every state has a shape of its own; colour and a word repeat it. */
const SHAPES = {
  ok: <circle cx="6" cy="6" r="3.5" fill="none" stroke="currentColor" strokeWidth="1.5" />,
  fire: <path d="M6 0l6 6-6 6-6-6z" fill="currentColor" />,
  small: <path d="M6 1l5 5-5 5-5-5z" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinejoin="round" />,
  risk: <path d="M6 1l5.5 10H.5z" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinejoin="round" />,
  good: <path d="M1 6.5l3.5 3.5L11 2.5" fill="none" stroke="currentColor" strokeWidth="2" strokeLinecap="round" strokeLinejoin="round" />,
  no: <path d="M2 2l8 8M10 2l-8 8" stroke="currentColor" strokeWidth="1.8" strokeLinecap="round" />,
  warming_up: <circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" strokeWidth="2" strokeDasharray="0 2.83" strokeLinecap="round" />,
  missing: (
    <>
      <rect x=".75" y=".75" width="10.5" height="10.5" fill="none" stroke="currentColor" />
      <path d="M1 7l6-6M1 11L11 1M5 11l6-6" stroke="currentColor" />
    </>
  ),
  stale: (
    <>
      <circle cx="6" cy="6" r="5" fill="none" stroke="currentColor" strokeWidth="1.4" />
      <path d="M6 3v3.2L8 7.5" fill="none" stroke="currentColor" strokeWidth="1.4" strokeLinecap="round" />
    </>
  ),
  excluded: <path d="M1 2.5h10M1 6h10M1 9.5h10" stroke="currentColor" strokeWidth="1.4" />,
  dot: <circle cx="6" cy="6" r="3" fill="currentColor" />,
  ring: <circle cx="6" cy="6" r="3" fill="none" stroke="currentColor" strokeWidth="1.4" strokeDasharray="2 1.6" />,
  live: (
    <>
      <circle cx="6" cy="6" r="2.5" fill="currentColor" />
      <circle cx="6" cy="6" r="5" fill="none" stroke="currentColor" />
    </>
  ),
  change: <path d="M1 2h10L6 10.5z" fill="currentColor" />,
  down: (
    <>
      <circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" strokeWidth="1.5" />
      <path d="M2 10L10 2" stroke="currentColor" strokeWidth="1.5" />
    </>
  ),
} satisfies Record<string, JSX.Element>;

export type MarkName = keyof typeof SHAPES;
const TINT: Partial<Record<MarkName, string>> = { fire: 'fire', risk: 'risk', good: 'good' };

export function Mark({ name, label, tint }: { name: MarkName; label?: string; tint?: string }): JSX.Element {
  const named = label ? { role: 'img', 'aria-label': label } : { 'aria-hidden': true };
  return (
    <svg className={`g ${tint ?? TINT[name] ?? 'mute'}`} viewBox="0 0 12 12" {...named}>
      {SHAPES[name]}
    </svg>
  );
}

/** The bare shape, for a drawing of its own. */
export const shape = (name: MarkName): ReactNode => SHAPES[name];

const ICONS = {
  now: <path d="M1 8h3l2-4 3 9 2-5h4" />,
  alerts: (
    <>
      <path d="M8 1.5L14.5 8 8 14.5 1.5 8z" />
      <path d="M8 5.5v3M8 10.8v.1" />
    </>
  ),
  explore: (
    <>
      <circle cx="7" cy="7" r="4.5" />
      <path d="M10.5 10.5L14 14" />
    </>
  ),
  detectors: <path d="M2 12.5c3 0 3-9 6-9s3 9 6 9M2 7.5h12" />,
  sources: (
    <>
      <path d="M2 4h7M2 8h12M2 12h9" />
      <circle cx="11.5" cy="4" r="1.5" />
    </>
  ),
  settings: (
    <>
      <path d="M2 4.5h6M12 4.5h2M2 11.5h2M8 11.5h6" />
      <circle cx="10" cy="4.5" r="1.8" />
      <circle cx="6" cy="11.5" r="1.8" />
    </>
  ),
  theme: (
    <>
      <circle cx="8" cy="8" r="5.5" />
      <path d="M8 2.5v11A5.5 5.5 0 008 2.5z" fill="currentColor" />
    </>
  ),
  brk: <path d="M9 1.5L4 9h4l-1 5.5L12.5 7H8.5z" />,
  x: <path d="M4 4l8 8M12 4l-8 8" />,
  link: <path d="M6.5 9.5l3-3M7 4.5l1.6-1.6a2.8 2.8 0 014 4L11 8.5M9 11.5l-1.6 1.6a2.8 2.8 0 01-4-4L5 7.5" />,
  copy: (
    <>
      <rect x="5" y="5" width="8.5" height="8.5" rx="1.5" />
      <path d="M3 10.5a1 1 0 01-.5-1V3.5a1 1 0 011-1h6a1 1 0 011 .5" />
    </>
  ),
} satisfies Record<string, JSX.Element>;

export function Icon({ name }: { name: keyof typeof ICONS }): JSX.Element {
  return (
    <svg className="i" viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
      {ICONS[name]}
    </svg>
  );
}

export function Logo(): JSX.Element {
  return (
    <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.75" strokeLinecap="round" aria-hidden="true">
      <path d="M2 11v2M5.5 10v4M9 7.5v9M12.5 11v2M16 3v18M19.5 8v8M22.5 11v2" />
    </svg>
  );
}
