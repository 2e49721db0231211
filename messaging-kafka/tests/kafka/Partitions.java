import java.util.*;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Publishes keys, in hexadecimal on standard input, and prints the partition that the client chose for each. */
public class Partitions {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (Producer<byte[], byte[]> producer =
                new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
                Scanner lines = new Scanner(System.in)) {
            while (lines.hasNextLine()) {
                byte[] key = HexFormat.of().parseHex(lines.nextLine());
                sent.add(producer.send(new ProducerRecord<>(arguments[1], key, new byte[] {1})));
            }
            StringBuilder answer = new StringBuilder();
            for (Future<RecordMetadata> one : sent) {
                answer.append(one.get().partition()).append('\n');
            }
            System.out.print(answer);
        }
    }
}
