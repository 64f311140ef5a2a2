import type { components } from './openapi';

type S = components['schemas'];
export type AlertState = S['AlertState'];
export type Alerts = S['Alerts'];
export type Chart = S['Chart'];
export type ChartPoints = S['ChartPoints'];
export type SeriesState = S['SeriesState'];
export type StripView = S['StripView'];
export type StripRow = S['StripRow'];
export type ServiceMap = S['ServiceMap'];
export type MapNode = S['MapNode'];
export type DetectorState = S['DetectorState'];
export type SourceState = S['SourceState'];
export type Dropped = S['Dropped'];
export type Me = S['Me'];
export type BudgetView = S['BudgetView'];
export type ControlRecord = S['ControlRecord'];
export type Faults = S['Faults'];
export type FaultState = S['FaultState'];
export type Setting = S['Setting'];
export type Finding = S['Finding'];
export type Label = S['LabelRequest']['label'];

/** How the process stands, told each second over the WebSocket. */
export interface Standing {
  environment: string;
  now_unix_seconds: number;
  watermark_unix_seconds: number | null;
  silent_seconds: number | null;
  not_ready: string[];
  demo: boolean;
  entities: number;
  series: number;
  series_not_viewed: number;
  open_alerts: number;
}

export type StatusName = StripRow['status'];

/** [entity, status, score ÷ bar, last seen (Unix seconds), series] */
export type EntityNow = [string, StatusName, number | null, number, number];
