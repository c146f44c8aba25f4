// The published client tries once to reconnect. Behind a server that keeps its port open over restarts that is enough;
// where the network or a proxy fails for longer, give the client this in the place of WebSocket:
//   new StateBackedClient(…, { WebSocket: reconnecting(WebSocket) })
/** A class like `WebSocket` whose sockets go on trying until they are open. */
export function reconnecting(WebSocket) {
  return class {
    static OPEN = WebSocket.OPEN;
    #pauseMs = 250;
    #isClosed = false;

    constructor(url) {
      this.url = url;
      this.#connect();
    }

    #connect() {
      let wasOpen = false;
      this.socket = new WebSocket(this.url);
      this.socket.onopen = (event) => this.onopen?.(event, (wasOpen = true));
      this.socket.onmessage = (event) => this.onmessage?.(event);
      this.socket.onerror = () => {}; // without a listener, `ws` ends a Node process
      this.socket.onclose = (event) => {
        if (wasOpen || this.#isClosed) return this.onclose?.(event);
        setTimeout(() => this.#isClosed || this.#connect(), this.#pauseMs);
        this.#pauseMs = Math.min(2 * this.#pauseMs, 10_000);
      };
    }

    get readyState() {
      return this.socket.readyState;
    }

    send(data) {
      this.socket.send(data);
    }

    close(...why) {
      this.#isClosed = true;
      this.socket.close(...why);
    }
  };
}
