import { useState, type JSX } from 'react';

import { setToken } from './api';

/** The server wants to know who asks. */
export function Door(): JSX.Element {
  const [given, setGiven] = useState('');
  return (
    <main id="main" className="main door">
      <form
        className="panel"
        onSubmit={(event) => {
          event.preventDefault();
          setToken(given.trim());
          location.reload();
        }}
      >
        <header>
          <h1>Foreshock wants a token</h1>
        </header>
        <div className="body form">
          <p className="soft">It is one of those in http.tokens of its settings. It is kept until this tab is closed.</p>
          <div className="field">
            <label htmlFor="door">Token</label>
            <input id="door" className="in" type="password" autoComplete="off" value={given} onChange={(event) => setGiven(event.target.value)} />
            <button className="btn main-act" type="submit">
              Enter
            </button>
          </div>
        </div>
      </form>
    </main>
  );
}
