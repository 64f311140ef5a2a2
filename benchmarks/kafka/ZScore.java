import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.ByteBuffer;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** Kafka Streams: BROKERS APPLICATION TOPIC OUT FOLDER. Mean and deviation of each key; what is six off is written. */
public final class ZScore implements Processor<String, byte[], String, byte[]> {
  private final ObjectMapper json = new ObjectMapper();
  private ProcessorContext<String, byte[]> context;
  private KeyValueStore<String, byte[]> store;

  @Override
  public void init(ProcessorContext<String, byte[]> given) {
    context = given;
    store = given.getStateStore("moments");
  }

  @Override
  public void process(Record<String, byte[]> record) {
    double x;
    try {
      JsonNode event = json.readTree(record.value());
      x = event.get("value").asDouble();
    } catch (java.io.IOException broken) {
      return;
    }
    byte[] kept = store.get(record.key());
    double count = 0, mean = 0, squares = 0;
    if (kept != null) {
      ByteBuffer read = ByteBuffer.wrap(kept);
      count = read.getDouble();
      mean = read.getDouble();
      squares = read.getDouble();
    }
    double deviation = count > 0 ? Math.sqrt(squares / count) : 0;
    boolean far = deviation > 0 && Math.abs(x - mean) > 6 * deviation;
    count += 1;
    double step = x - mean;
    mean += step / count;
    squares += step * (x - mean);
    store.put(record.key(), ByteBuffer.allocate(24).putDouble(count).putDouble(mean).putDouble(squares).array());
    if (far) {
      context.forward(record);
    }
  }

  public static void main(String[] args) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put("auto.offset.reset", "earliest");
    Topology topology = new Topology();
    topology.addSource("in", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), args[2]);
    topology.addProcessor("judge", ZScore::new, "in");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("moments"), Serdes.String(), Serdes.ByteArray()),
        "judge");
    topology.addSink("out", args[3], Serdes.String().serializer(), Serdes.ByteArray().serializer(), "judge");
    KafkaStreams running = new KafkaStreams(topology, settings);
    Runtime.getRuntime().addShutdownHook(new Thread(running::close));
    running.start();
  }
}
