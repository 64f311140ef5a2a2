import type { JSX, ReactNode } from 'react';

import { quantity } from './format';
import { Failed, Loading, SkeletonRows } from './parts';

/** A column: its name above it, and, on a phone, before each of its values. */
export interface Column<T> {
  name: ReactNode;
  /** Its name in one line; the first column has none on a phone, where it is the title of a card. */
  label?: string;
  num?: boolean;
  className?: string;
  cell: (one: T) => ReactNode;
}

/** Rows beside one another on a wide screen, cards below one another on a phone. */
export function Table<T>(props: { label: string; columns: Column<T>[]; rows: T[]; keyOf: (one: T) => string; headless?: boolean }): JSX.Element {
  const { columns } = props;
  const style = (one: Column<T>): string | undefined => [one.num ? 'num' : '', one.className ?? ''].filter(Boolean).join(' ') || undefined;
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={props.label}>
      <table className="tbl cards">
        {!props.headless && (
          <thead>
            <tr>
              {columns.map((one, i) => (
                <th key={i} className={one.num ? 'num' : undefined}>
                  {one.name}
                </th>
              ))}
            </tr>
          </thead>
        )}
        <tbody>
          {props.rows.map((row) => (
            <tr key={props.keyOf(row)}>
              {columns.map((one, i) => (
                <td key={i} className={style(one)} data-l={one.label ?? (typeof one.name === 'string' ? one.name : '')}>
                  {one.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

interface Asked<T> {
  data: T | undefined;
  isError: boolean;
  error: unknown;
  refetch: () => unknown;
}

/** What was asked for, once it is there; its shape until then; why not, and what still works, where it failed. */
export function Loaded<T>(props: { query: Asked<T>; what: string; still: string; rows?: number; children: (data: T) => ReactNode }): JSX.Element {
  const { query } = props;
  if (query.data !== undefined) return <>{props.children(query.data)}</>;
  if (query.isError) return <Failed what={props.what} error={query.error} still={props.still} again={() => void query.refetch()} />;
  return (
    <Loading>
      <SkeletonRows rows={props.rows ?? 4} />
    </Loading>
  );
}

/** The name of a column over two lines. */
export const twoLines = (first: string, second: string): JSX.Element => (
  <>
    {first}
    <br />
    {second}
  </>
);

/** What half of all took at most, and 99 of 100. */
export function HalfAndMost({ half, most, bad = false }: { half: number | null; most: number | null; bad?: boolean }): JSX.Element {
  if (half === null || most === null) return <>–</>;
  return (
    <>
      <b className={bad ? 'risk' : undefined}>{quantity(half, 's')}</b>, {quantity(most, 's')}
    </>
  );
}
