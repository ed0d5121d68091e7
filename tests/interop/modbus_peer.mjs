// A PLC's memory in modbus-serial's own server. `modbus_peer.mjs PORT` obeys lines: `set FIRST WORD ...` stores words of
// ToStation as the PLC's program would, `get` prints all of FromStation; each answers with one line.
import { createInterface } from "node:readline";
import { ServerTCP } from "modbus-serial";

const toStation = new Array(19).fill(0);
const fromStation = new Array(40).fill(0);
const refused = { modbusErrorCode: 2, message: "there is no such register" };
const memory = (address) => {
  if (address < 19) return [toStation, address];
  if (address >= 100 && address < 140) return [fromStation, address - 100];
  throw refused;
};
const vector = {
  getHoldingRegister: (address) => {
    const [words, at] = memory(address);
    return words[at];
  },
  setRegister: (address, value) => {
    const [words, at] = memory(address);
    words[at] = value;
  },
};
const server = new ServerTCP(vector, { host: "127.0.0.1", port: Number(process.argv[2]), unitID: 7 });
server.on("initialized", () => console.log("serving"));
for await (const line of createInterface({ input: process.stdin })) {
  const [what, first, ...words] = line.split(" ");
  if (what === "set") {
    toStation.splice(Number(first), words.length, ...words.map(Number));
    console.log("done");
  } else {
    console.log(fromStation.join(" "));
  }
}
process.exit(0);
