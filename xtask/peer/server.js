// What Rookery is measured against: the chat server that most would write first. Every message is inserted into
// Postgres before anybody sees it, then broadcast to its room and acknowledged to its sender.
const { createServer } = require("node:http");
const { Pool } = require("pg");
const { Server } = require("socket.io");

const TABLE = `CREATE TABLE IF NOT EXISTS messages (
  seq bigserial PRIMARY KEY, room text NOT NULL, sender text NOT NULL, text text NOT NULL,
  at timestamptz NOT NULL DEFAULT now())`;
const INSERT = {
  name: "insert",
  text: "INSERT INTO messages (room, sender, text) VALUES ($1, $2, $3) RETURNING seq, at",
};

async function main() {
  // Where Postgres listens comes from the environment: PGHOST, PGUSER, PGDATABASE.
  const pool = new Pool({ max: Number(process.env.POOL ?? 10) });
  await pool.query(TABLE);
  const http = createServer();
  const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });
  io.on("connection", (socket) => {
    const { room, user } = socket.handshake.query;
    socket.conn.request = null; // As Socket.IO's page on memory advises: the request is not kept.
    socket.join(room);
    socket.on("send", async (text, ack) => {
      try {
        const { rows } = await pool.query({ ...INSERT, values: [room, user, text] });
        io.to(room).emit("message", { room, seq: rows[0].seq, at: rows[0].at, sender: user, text });
        ack({ seq: rows[0].seq });
      } catch (error) {
        ack({ error: error.message });
      }
    });
  });
  http.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("ready"));
}

main();
