import { QueryClientProvider } from '@tanstack/react-query';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import 'uplot/dist/uPlot.min.css';

import { App } from './app';
import './tokens.css';
import './app.css';
import './more.css';
import { client } from './queries';
import { followSystem } from './theme';

followSystem();
createRoot(document.getElementById('app')!).render(
  <StrictMode>
    <QueryClientProvider client={client}>
      <App />
    </QueryClientProvider>
  </StrictMode>,
);
