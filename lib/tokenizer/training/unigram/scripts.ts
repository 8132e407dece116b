/** Unicode's scripts, the usual ones first; those that the platform does not know are passed over. */
const NAMES =
  'Common Latin Han Hiragana Katakana Hangul Cyrillic Greek Arabic Hebrew Devanagari Thai Inherited Armenian Georgian ' +
  'Bengali Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Lao Tibetan Myanmar Ethiopic Khmer Mongolian ' +
  'Bopomofo Yi Cherokee Canadian_Aboriginal Adlam Ahom Anatolian_Hieroglyphs Avestan Balinese Bamum Bassa_Vah Batak ' +
  'Bhaiksuki Brahmi Braille Buginese Buhid Carian Caucasian_Albanian Chakma Cham Chorasmian Coptic Cuneiform Cypriot ' +
  'Cypro_Minoan Deseret Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Garay Glagolitic Gothic Grantha ' +
  'Gunjala_Gondi Gurung_Khema Hanifi_Rohingya Hanunoo Hatran Imperial_Aramaic Inscriptional_Pahlavi ' +
  'Inscriptional_Parthian Javanese Kaithi Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khojki Khudawadi Kirat_Rai Lepcha ' +
  'Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin ' +
  'Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mro Multani Nabataean Nag_Mundari ' +
  'Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Ol_Onal Old_Hungarian Old_Italic ' +
  'Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Osage Osmanya ' +
  'Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada ' +
  'Shavian Siddham SignWriting Sogdian Sora_Sompeng Soyombo Sundanese Sunuwar Syloti_Nagri Syriac Tagalog Tagbanwa ' +
  'Tai_Le Tai_Tham Tai_Viet Takri Tangsa Tangut Thaana Tifinagh Tirhuta Todhri Toto Tulu_Tigalari Ugaritic Vai Vithkuqi ' +
  'Wancho Warang_Citi Yezidi Zanabazar_Square';

/** A script of no character. */
export const NO_SCRIPT = -1;

/** Stands for whatever script comes before it, as an accent does. */
export const ANY_SCRIPT = -2;

const PROLONGED_SOUND_MARK = 0x30fc;

/**
 * Numbers the scripts of characters as far as pieces care: hiragana and katakana count as Han, since Japanese words mix them;
 * marks that belong to any script have {@link ANY_SCRIPT}.
 */
export class Scripts {
  private readonly matchers: readonly { name: string; pattern: RegExp }[];
  private readonly known = new Map<number, number>();

  constructor() {
    this.matchers = NAMES.split(' ').flatMap((name) => {
      try {
        return [{ name, pattern: new RegExp(`\\p{Script=${name}}`, 'u') }];
      } catch {
        return [];
      }
    });
  }

  of(codePoint: number): number {
    let script = this.known.get(codePoint);
    if (script === undefined) {
      script = this.find(codePoint);
      this.known.set(codePoint, script);
    }
    return script;
  }

  private find(codePoint: number): number {
    const character = String.fromCodePoint(codePoint);
    const index = this.matchers.findIndex(({ pattern }) => pattern.test(character));
    const name = this.matchers[index]?.name;
    if (name === 'Inherited') return ANY_SCRIPT;
    const isKana = name === 'Hiragana' || name === 'Katakana' || codePoint === PROLONGED_SOUND_MARK;
    return isKana ? this.matchers.findIndex((matcher) => matcher.name === 'Han') : index;
  }
}
