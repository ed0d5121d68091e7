// A PLC's four steps with modbus-serial: enable, write a part's data, trigger it, read the block. Prints the block.
import ModbusRTU from "modbus-serial";

const client = new ModbusRTU();
await client.connectTCP("127.0.0.1", { port: Number(process.argv[2]) });
client.setID(255);
await client.writeRegisters(0, [1, 0, 4]);
await client.writeRegisters(6, [0x502d, 0x3900, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 300]);
await client.writeRegister(2, 5);
const inputs = await client.readInputRegisters(0, 40);
const mirror = await client.readHoldingRegisters(100, 40);
console.log(JSON.stringify({ inputs: inputs.data, mirror: mirror.data }));
let refused = false;
try {
  await client.writeRegister(106, 1);
} catch {
  refused = true;
}
console.log(JSON.stringify({ refused }));
client.close(() => {});
