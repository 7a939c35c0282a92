"""Which encoding text is in, from long texts down to a word."""

from codecs import lookup
from random import Random

import pytest

from tinyslm.data.charset import codec_of
from tinyslm.data.charset_guess import NAMES, guess_encoding

RUSSIAN = "Старый мельник жил у реки и каждый день ходил на рынок. Его дочь читала книги и писала письма."
GERMAN = "Die Größe der Tür überrascht mich. Das Mädchen läuft über die Straße. „Schön“, sagte er – 5 €."
FRENCH = "Été comme hiver, le garçon allait à l’école. « C’est déjà fini ? » demanda-t-elle. L’œuvre coûte 5 €."
POLISH = "Zażółć gęślą jaźń. Dziewczyna poszła na łąkę, gdzie rosły piękne kwiaty. Później wróciła do domu."
JAPANESE = "年老いた粉屋は川のそばに住んでいて、毎日市場に行きました。娘は本を読み、町の友達に手紙を書きました。"
CHINESE = "老磨坊主住在河边，每天都去市场。他的女儿读书，给城里的朋友写信。"
TEXTS = [
    ("cp1252", GERMAN),
    ("cp1252", FRENCH),
    ("cp1252", "El niño comió una manzana en la montaña. ¿Dónde está el corazón de la ciudad?"),
    ("latin-1", "A situação não é fácil: os irmãos saíram à noite e não voltaram. A criança está com a avó."),
    ("latin-1", "Hon gick över ån för att få höra på när han läste. Räven sprang över ängen."),
    ("latin-1", "La città è più bella perché c'è il sole; così si può andare là."),
    ("cp1252", "“It’s a pity,” she said — the café was closed and nobody knew why."),
    ("cp1250", POLISH),
    ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy. Dívka šla přes řeku a večer se vrátila domů."),
    ("cp1250", "Árvíztűrő tükörfúrógép. A kislány elment az erdőbe, hogy gyümölcsöt szedjen."),
    ("cp1251", RUSSIAN),
    ("koi8-r", RUSSIAN),
    ("cp866", RUSSIAN),
    ("cp1251", "Старий мельник жив біля річки і щодня ходив на ринок. Його дочка читала книжки."),
    ("cp1253", "Ο γέρος μυλωνάς ζούσε κοντά στο ποτάμι και κάθε μέρα πήγαινε στην αγορά."),
    ("cp1254", "Yaşlı değirmenci nehrin yanında yaşıyordu ve her gün çarşıya giderdi. Kızı kitap okur."),
    ("cp1255", "הטוחן הזקן גר ליד הנהר והלך כל יום לשוק. בתו קראה ספרים וכתבה מכתבים."),
    ("cp1256", "كان الطحان العجوز يعيش بالقرب من النهر ويذهب كل يوم إلى السوق."),
    ("cp874", "ช่างโม่แป้งชราอาศัยอยู่ใกล้แม่น้ำและไปตลาดทุกวัน ลูกสาวของเขาอ่านหนังสือ"),
    ("shift_jis", JAPANESE),
    ("euc-jp", JAPANESE),
    ("gbk", CHINESE),
    ("big5", "老磨坊主住在河邊，每天都去市場。他的女兒讀書，給城裡的朋友寫信。"),
    ("euc-kr", "늙은 방앗간 주인은 강가에 살았고 매일 시장에 갔습니다. 그의 딸은 책을 읽었습니다."),
    ("cp850", GERMAN.translate({0x201E: None, 0x201C: None, 0x2013: None, 0x20AC: None})),
    ("mac_roman", GERMAN),
    ("iso8859-2", POLISH),
]
WORDS = [("cp1252", "café"), ("cp1252", "Größe"), ("cp1252", "año"), ("cp1252", "São Paulo"), ("cp1252", "It’s")]
WORDS += [("cp1250", "łódź"), ("cp1251", "Привет"), ("koi8-r", "Привет"), ("cp1251", "файл config.json не найден")]
WORDS += [("shift_jis", "こんにちは"), ("gbk", "你好，世界"), ("big5", "你好，世界"), ("euc-kr", "안녕하세요 세계")]


@pytest.mark.parametrize(("encoding", "text"), TEXTS)
def test_texts_are_read_as_they_were_written(encoding, text):
    for part in (text[:25], text, f"{text}\n" * 50, "".join(f"{word};1.5;a\n" for word in text.split())):
        data = part.encode(encoding)
        if not data.isascii():
            assert data.decode(guess_encoding(data)) == part


@pytest.mark.parametrize(("encoding", "text"), WORDS)
def test_single_words(encoding, text):
    data = text.encode(encoding)
    assert data.decode(guess_encoding(data)) == text


def test_bytes_that_make_no_sense_have_no_encoding():
    assert guess_encoding(bytes(Random(1).choices(range(32, 256), k=5000))) == ""


def test_every_reported_name_can_be_given_back():
    for codec, name in NAMES.items():
        assert lookup(codec_of(name)) == lookup(codec)
